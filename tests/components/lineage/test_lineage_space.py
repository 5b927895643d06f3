"""`iml clean`: what no version needs goes, what one needs stays, on a folder and on S3."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import corruptions_remote
import lineage_support as support
import pytest
from typer.testing import CliRunner, Result

from components.lineage.audit import audit
from components.lineage.collect import collect
from components.lineage.verdict import Verdict
from components.workspace.remote import Objects
from flows.cli.main import app

STRAY = b"nobody needs this"
NAME = hashlib.md5(STRAY).hexdigest()
LISTING = json.dumps([{"md5": NAME, "relpath": "x"}]).encode()
FOLDER = f"{hashlib.md5(LISTING).hexdigest()}.dir"
STRAYS = {NAME: STRAY, FOLDER: LISTING}


def iml(*words: str) -> Result:
    return CliRunner().invoke(app, ["clean", *words])


def put(root: Path) -> list[Path]:
    """Objects that nothing names, in a folder of objects."""
    paths = [root / name[:2] / name[2:] for name in STRAYS]
    for path, data in zip(paths, STRAYS.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return paths


@pytest.mark.parametrize("place", ["folder", "s3"])
def test_what_no_version_needs_goes_and_every_version_is_verified(
    copied: Path, place: str, request: pytest.FixtureRequest
) -> None:
    support.run(copied, "git", "checkout", "--quiet", "dvc.lock")  # version 2's is in its record
    put(copied / ".state/dvc-remote/files/md5")
    if place == "s3":
        support.on_s3(copied, request.getfixturevalue("s3"))
    cache = copied / ".dvc/cache/files/md5"
    unpushed = cache / "12" / ("0" * 30)  # of another branch, and nowhere else
    unpushed.parent.mkdir(parents=True)
    unpushed.write_bytes(b"unpushed")
    support.run(copied, "git", "switch", "--quiet", "--create", "other")
    (copied / "own.dvc").write_text(f"outs: [{{md5: '12{'0' * 30}', hash: md5, path: own}}]\n")
    support.run(copied, "git", "add", "own.dvc")
    who = ("-c", "user.name=T", "-c", "user.email=t@example.org")
    support.run(copied, "git", *who, "commit", "--quiet", "--message", "own", "--", "own.dvc")
    support.run(copied, "git", "switch", "--quiet", "-")
    strays = put(cache)
    photo = corruptions_remote.objects(copied)["data/made/photos/Au/Au3.png"]
    alone = cache / photo.parent.name / photo.name  # a version's, which the remote has lost
    if place == "folder":
        alone.parent.mkdir(exist_ok=True)
        photo.rename(alone)
    old, new = (copied / f".state/cache/distill/{name}" for name in ("old-training", "data/new"))
    for path in (old, new):
        path.mkdir(parents=True)
        (path / "array.npy").write_bytes(b"x" * 1000)
        os.utime(path / "array.npy", (0, 0))
    os.utime(old, (0, 0))

    def there() -> list[str]:
        objects = Objects.of_workspace()
        return sorted({*STRAYS} - {*objects.missing(STRAYS)})

    done = iml("--remote", "--days", "0", "--json")
    assert done.exit_code == 0, done.output
    said = {one["what"]: one["can_go"]["objects"] for one in json.loads(done.stdout)["holdings"]}
    assert said["DVC remote"] == said["DVC cache"] == sorted(STRAYS)
    assert there() == sorted(STRAYS)
    assert all(path.exists() for path in (*strays, old, new))
    assert iml("--yes").exit_code == 0  # younger than 30 days, and not the remote
    assert there() == sorted(STRAYS)
    assert new.exists()
    assert not old.exists()
    done = iml("--remote", "--days", "0", "--yes")
    assert done.exit_code == 0, done.output
    assert there() == []
    assert not any(path.exists() for path in (*strays, new))
    assert unpushed.exists()
    if place == "folder":
        alone.rename(photo)
    for version in (1, 2):
        with collect(f"{support.MODEL}/{version}") as evidence:
            answer = audit(evidence, deep=True)
        assert answer.verdict == Verdict.VERIFIED, answer.sentence()
    assert "0.0 MB can go" in iml("--remote", "--days", "0").stdout


def test_nothing_goes_where_it_is_unknown_what_a_version_needs(copied: Path) -> None:
    (stray, *_) = put(copied / ".state/dvc-remote/files/md5")
    corruptions_remote.objects(copied)["data/made"].unlink()
    done = iml("--remote", "--days", "0", "--yes")
    assert done.exit_code == 1
    assert f"what {support.MODEL}/1 needs is not known" in str(done.exception)
    assert stray.exists()
