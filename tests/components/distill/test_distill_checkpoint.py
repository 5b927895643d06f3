from __future__ import annotations

import json

import pytest
import torch

from components.distill import checkpoint
from components.distill.checkpoint import Checkpoint


def write(folder, *epochs):
    for epoch in epochs:
        tensors = {"weight": torch.full((50,), float(epoch))}
        checkpoint.save(folder, Checkpoint(epoch, tensors, {"history": [0.1] * epoch}))


def test_round_trip_of_the_newest_two_kept(tmp_path):
    write(tmp_path, 1, 2, 3)
    found = checkpoint.newest(tmp_path)
    assert found.epoch == 3
    assert found.facts == {"history": [0.1] * 3}
    assert torch.equal(found.tensors["weight"], torch.full((50,), 3.0))
    assert (
        sorted(path.stem for path in tmp_path.iterdir()) == ["epoch-0002"] * 2 + ["epoch-0003"] * 2
    )


@pytest.mark.parametrize("file", ["epoch-0003.safetensors", "epoch-0003.json"])
@pytest.mark.parametrize("how", ["tampered", "truncated", "missing", "empty"])
def test_damage_is_named_and_the_one_before_taken(tmp_path, capsys, file, how):
    write(tmp_path, 1, 2, 3)
    path = tmp_path / file
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "tampered":
        path.write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    else:
        path.write_bytes(data[: len(data) // 2] if how == "truncated" else b"")
    assert checkpoint.newest(tmp_path).epoch == 2
    lines = capsys.readouterr().err.splitlines()
    # Tensors without their JSON are an epoch that was never finished: nothing to warn about.
    assert len(lines) == (0 if (how, path.suffix) == ("missing", ".json") else 1)
    assert all(line.startswith("warning: checkpoint skipped: ") for line in lines)


def test_facts_that_were_edited(tmp_path, capsys):
    write(tmp_path, 1)
    path = tmp_path / "epoch-0001.json"
    stored = json.loads(path.read_text())
    stored["body"]["facts"]["history"] = [0.9]
    path.write_text(json.dumps(stored))
    assert checkpoint.newest(tmp_path) is None
    assert "was changed" in capsys.readouterr().err


def test_half_written_files_of_a_killed_run_go_away(tmp_path):
    (tmp_path / ".epoch-0001-abc.safetensors").write_bytes(b"half")
    write(tmp_path, 1)
    assert not list(tmp_path.glob(".epoch-*"))


def test_nothing_there(tmp_path, capsys):
    assert checkpoint.newest(tmp_path) is None
    assert capsys.readouterr().err == ""
