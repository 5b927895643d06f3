"""The DVC remote as a store: only an object's name leads to a file; a push leaves none out."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import boto3
import pytest
import yaml

from components import workspace
from components.core.errors import EvidenceError
from components.workspace.remote import FOLDER, MissingError, Objects, fill

STAGES = {"copy": {"cmd": "mkdir out; cp data/set/* out", "deps": ["data/set"], "outs": ["out"]}}


def test_names_from_a_strangers_record_do_not_lead_out(tmp_path: Path) -> None:
    md5 = hashlib.md5(b"inside", usedforsecurity=False).hexdigest()
    place = tmp_path / "remote" / FOLDER / md5[:2] / md5[2:]
    place.parent.mkdir(parents=True)
    place.write_bytes(b"inside")
    (tmp_path / "secret").write_bytes(b"outside")
    objects = Objects.of_folder(tmp_path / "remote")
    assert objects.read(md5) == b"inside"
    odd = ["../" * 4 + "secret", f"/{tmp_path}/secret", md5.upper(), f"{md5}x", ""]
    for name in odd:
        with pytest.raises(MissingError, match="is no object's name"):
            objects.read(name)
    assert objects.missing([md5, *odd]) == sorted(odd)


@pytest.fixture(scope="module")
def _pushed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pushed")
    photos = root / "data/set"
    photos.mkdir(parents=True)
    for number in range(3):
        (photos / f"{number}.png").write_text(f"photo {number}")
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}))
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=root, check=True)
    config = "[core]\n    remote = folder\n['remote \"folder\"']\n    url = ../remote\n"
    (root / ".dvc/config").write_text(config)
    with chdir(root):
        workspace.dvc_add(photos)
        workspace.dvc("repro")
        workspace.push(["set"])
    return root


@pytest.fixture
def pushed(_pushed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with a data set and a stage's folder, pushed to a folder."""
    root = shutil.copytree(_pushed, tmp_path / "pushed")
    monkeypatch.chdir(root)
    return root


def contents(remote: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(remote.rglob("*")) if path.is_file()}


def test_any_object_that_the_remote_has_lost_is_replaced(pushed: Path) -> None:
    whole = contents(pushed / "remote")
    assert len(whole) == 4  # three photos and the listing that both folders share
    for path in whole:
        path.unlink()
        fill(["dvc.yaml", "data/set.dvc"])
        assert contents(pushed / "remote") == whole


def test_a_push_replaces_what_s3_has_lost(pushed: Path, s3: str) -> None:
    bucket = boto3.resource("s3").Bucket("objects")
    bucket.create()
    config = pushed / ".dvc/config"
    address = f"s3://objects/dvc\n    endpointurl = {s3}"
    config.write_text(config.read_text().replace("../remote", address))
    workspace.push(["set"])
    keys = {entry.key for entry in bucket.objects.all()}
    assert len(keys) == 4
    lost = md5_of("photo 1")
    bucket.Object(f"dvc/{FOLDER}/{lost[:2]}/{lost[2:]}").delete()
    workspace.push(["set"])
    assert {entry.key for entry in bucket.objects.all()} == keys
    found = bucket.Object(f"dvc/{FOLDER}/{lost[:2]}/{lost[2:]}").get()["Body"].read()
    assert found == b"photo 1"


@pytest.mark.parametrize("cached", ["lost", "changed"])
def test_a_push_names_what_it_cannot_replace(pushed: Path, cached: str) -> None:
    lost = md5_of("photo 1")
    for store in ("remote", ".dvc/cache"):
        place = pushed / store / FOLDER / lost[:2] / lost[2:]
        place.unlink()
    if cached == "changed":
        place.write_text("another")
        place.chmod(0o444)  # DVC hashes only what is writable
    with pytest.raises(MissingError, match=rf"^(data/set|out)/1\.png: object {lost} cannot be"):
        workspace.push(["set"])


def test_a_push_does_not_go_by_a_listing_that_was_changed(pushed: Path) -> None:
    listing = next(path for path in contents(pushed / "remote") if path.suffix == ".dir")
    listing.chmod(0o644)
    listing.write_text("[]")
    listing.chmod(0o444)
    with pytest.raises(EvidenceError, match="its MD5 is"):
        workspace.push(["set"])


def md5_of(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
