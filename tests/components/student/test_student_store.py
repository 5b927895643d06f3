from __future__ import annotations

import json

import pytest
import torch

from components.errors import InputError
from components.student import store


def test_round_trip(make, tmp_path):
    student, photo = make(alpha=0.3), torch.rand(1, 3, 64, 64)
    store.save(student, tmp_path)
    again = store.load(tmp_path)
    assert not again.training
    assert again.config == student.config
    with torch.no_grad():
        assert torch.equal(again(photo), student(photo))


def test_equal_students_give_equal_bytes(make, tmp_path):
    for name in "ab":
        store.save(make(), tmp_path / name)
    for file in (store.WEIGHTS, store.CONFIG):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("how", ["truncated", "tampered", "missing"])
def test_weights_that_are_not_what_was_saved(make, tmp_path, how):
    store.save(make(), tmp_path)
    path = tmp_path / store.WEIGHTS
    data = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
    else:
        data[-1] ^= 1
        path.write_bytes(data if how == "tampered" else data[:-1000])
    with pytest.raises(InputError, match="no such file" if how == "missing" else "SHA-256"):
        store.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"channels": 24}, "does not fit"),
        ({"channels": "16"}, "channels"),
        ({"format": 2}, "format"),
        ({"colour": 1}, "colour"),
        ({"weights_sha256": None}, "weights_sha256 is missing"),
        ({"backbone": "no_such_net"}, "no network"),
        ({"prototypes": 0}, "does not fit"),
    ],
)
def test_config_that_is_not_what_was_saved(make, tmp_path, change, complaint):
    store.save(make(), tmp_path)
    path = tmp_path / store.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=complaint):
        store.load(tmp_path)


def test_config_that_is_no_json(make, tmp_path):
    store.save(make(), tmp_path)
    (tmp_path / store.CONFIG).write_text("[1")
    with pytest.raises(InputError, match="not valid JSON"):
        store.load(tmp_path)
