from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from pseudo_label_support import settings

from components.core.errors import InputError
from components.core.paths import WEIGHTS, state_dir
from components.pseudo_label.checkpoints import Checkpoint, Weights
from components.pseudo_label.registry import build, downloadable, get, locate


def known(server) -> Weights:
    digest = hashlib.sha256(server.body).hexdigest()
    return Weights("weights.pth", len(server.body), digest, server.base, "IML_SAM_MIRROR")


def test_official_addresses_and_the_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IML_SAM_MIRROR", raising=False)
    assert downloadable("vit_b").url.endswith("/segment_anything/sam_vit_b_01ec64.pth")
    monkeypatch.setenv("IML_SAM_MIRROR", "http://mirror.example/sam/")
    assert downloadable("vit_h").url == "http://mirror.example/sam/sam_vit_h_4b8939.pth"


def test_fetch_from_a_mirror_once(server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IML_SAM_MIRROR", server.base)
    elsewhere = replace(known(server), address="http://127.0.0.1:9/nowhere")
    first, second = elsewhere.fetch(), elsewhere.fetch()
    assert first == second == state_dir() / WEIGHTS / "weights.pth"
    assert first.read_bytes() == server.body
    assert len(server.ranges) == 1


def test_damaged_file_on_disk_is_refused(server) -> None:
    weights = known(server)
    weights.path.parent.mkdir(parents=True)
    weights.path.write_bytes(b"0" * len(server.body))
    with pytest.raises(InputError, match="SHA-256 differs"):
        weights.fetch()


def test_unreachable_host_names_the_setting_that_needs_none(
    free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IML_SAM_MIRROR", f"http://127.0.0.1:{free_port}")
    with pytest.raises(InputError) as caught:
        downloadable("vit_b").fetch()
    line = caught.value.line()
    assert "pseudo_label.teacher: grabcut" in line
    assert "pseudo_label.checkpoint" in line
    assert "\n" not in line
    assert caught.value.exit_code == 2


def test_weight_free_teacher_has_nothing_to_fetch() -> None:
    for name in ("grabcut", "sam_lite"):
        with pytest.raises(InputError, match=r"no weights to fetch.*vit_b, vit_l, vit_h"):
            downloadable(name)


def test_local_checkpoint(tmp_path: Path) -> None:
    own = tmp_path / "own.pth"
    own.write_bytes(b"anything")
    assert locate(get("vit_b"), str(own)) == Checkpoint(own)
    with pytest.raises(InputError, match="no such file"):
        locate(get("vit_b"), str(tmp_path / "absent.pth"))


def test_official_name_with_other_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / downloadable("vit_l").file
    path.write_bytes(b"not it")
    with pytest.raises(InputError, match="not the published sam_vit_l"):
        build(settings(teacher="vit_b", checkpoint=str(path)))


def test_on_disk_wants_the_full_size() -> None:
    weights = downloadable("vit_b")
    assert not weights.on_disk()
    weights.path.parent.mkdir(parents=True)
    weights.path.write_bytes(b"short")
    assert not weights.on_disk()
    with open(weights.path, "wb") as file:
        file.truncate(weights.size)  # sparse: takes no space
    assert weights.on_disk()
