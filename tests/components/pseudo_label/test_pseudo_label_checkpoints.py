from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from components.core.errors import InputError
from components.pseudo_label import checkpoints
from components.pseudo_label.checkpoints import CHECKPOINTS, Checkpoint, fetch, locate


def known(server) -> dict[str, Checkpoint]:
    digest = hashlib.sha256(server.body).hexdigest()
    return {"vit_b": Checkpoint("weights.pth", len(server.body), digest)}


def test_official_addresses_and_the_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IML_SAM_MIRROR", raising=False)
    assert CHECKPOINTS["vit_b"].url.endswith("/segment_anything/sam_vit_b_01ec64.pth")
    monkeypatch.setenv("IML_SAM_MIRROR", "http://mirror.example/sam/")
    assert CHECKPOINTS["vit_h"].url == "http://mirror.example/sam/sam_vit_h_4b8939.pth"


def test_fetch_from_a_mirror_once(server, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IML_SAM_MIRROR", server.base)
    first = fetch("vit_b", tmp_path, checkpoints=known(server))
    second = fetch("vit_b", tmp_path, checkpoints=known(server))
    assert first == second == tmp_path / "weights.pth"
    assert first.read_bytes() == server.body
    assert len(server.ranges) == 1


def test_damaged_file_on_disk_is_refused(server, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"0" * len(server.body))
    with pytest.raises(InputError, match="SHA-256 differs"):
        fetch("vit_b", tmp_path, checkpoints=known(server))


def test_unreachable_host_names_the_setting_that_needs_none(
    tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IML_SAM_MIRROR", f"http://127.0.0.1:{free_port}")
    with pytest.raises(InputError) as caught:
        fetch("vit_b", tmp_path)
    line = caught.value.line()
    assert "pseudo_label.teacher: grabcut" in line
    assert "pseudo_label.checkpoint" in line
    assert "\n" not in line
    assert caught.value.exit_code == 2


def test_weight_free_teacher_has_nothing_to_fetch() -> None:
    with pytest.raises(InputError, match="no weights to fetch"):
        fetch("grabcut")


def test_local_checkpoint(tmp_path: Path) -> None:
    own = tmp_path / "own.pth"
    own.write_bytes(b"anything")
    assert locate("vit_b", str(own)) == own
    with pytest.raises(InputError, match="no such file"):
        locate("vit_b", str(tmp_path / "absent.pth"))


def test_official_name_with_other_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / CHECKPOINTS["vit_l"].file
    path.write_bytes(b"not it")
    with pytest.raises(InputError, match="not the published sam_vit_l"):
        locate("vit_b", str(path))


def test_on_disk_wants_the_full_size() -> None:
    path = checkpoints.weights_dir() / CHECKPOINTS["vit_b"].file
    assert checkpoints.on_disk("vit_b") is None
    path.parent.mkdir(parents=True)
    path.write_bytes(b"short")
    assert checkpoints.on_disk("vit_b") is None
    with open(path, "wb") as file:
        file.truncate(CHECKPOINTS["vit_b"].size)  # sparse: takes no space
    assert checkpoints.on_disk("vit_b") == path
