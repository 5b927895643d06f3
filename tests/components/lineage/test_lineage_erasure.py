"""Erasing photos of a project with two versions: nothing of them is left, and audits say so."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import lineage_support as support
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image, UnidentifiedImageError
from project import BIN
from typer.testing import CliRunner

from components.core import paths
from components.core.errors import CheckError, InputError
from components.core.files import sha256_bytes
from components.data.dataset import load
from components.lineage import bundle, erasure, photos
from components.lineage.audit import audit
from components.lineage.collect import collect
from components.lineage.erasure import Erased
from components.lineage.replay import prepare
from components.lineage.verdict import Audit, Verdict
from components.registry import promotion, tombstones
from components.registry.tombstones import Tombstone
from flows.cli.main import app

# Of the training photos, and one of the test split.
NAMES = ["Tp/Tp0.png", "Tp/Tp3.png", "Tp/Tp5.png", "Au/Au5.png", "Tp/Tp9.png"]
_URI = re.compile(rb"data:image/\w+;base64,([A-Za-z0-9+/=]+)")


def plan(names: list[str] = NAMES) -> list[Tombstone]:
    return erasure.plan("made", names, reason="asked for", who="ann")


def pixels(names: list[str]) -> dict[str, np.ndarray]:
    """Small grey copies of photos, by name."""
    return {name: _small(Image.open(f"data/made/photos/{name}")) for name in names}


def _small(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L").resize((16, 12), Image.Resampling.BOX), np.float32)


def _pictures(data: bytes) -> Iterator[Image.Image]:
    """Every picture in a file: itself, those in a page."""
    for part in [data, *(base64.b64decode(text) for text in _URI.findall(data))]:
        try:
            with Image.open(io.BytesIO(part)) as image:
                yield image.convert("RGB")
        except (UnidentifiedImageError, OSError):
            continue


def _windows(image: Image.Image) -> Iterator[np.ndarray]:
    """Small copies of the whole picture and, of a contact sheet, of every place of a photo."""
    yield _small(image)
    if image.size[0] > 400:
        column = np.asarray(image.convert("L").crop((8, 0, 8 + 256, image.size[1])), np.float32)
        narrow = column.reshape(-1, 16, 16).mean(axis=2)
        for top in range(len(narrow) - 192):
            yield narrow[top : top + 192].reshape(12, 16, 16).mean(axis=1)


def contents(root: Path) -> Iterator[tuple[str, bytes]]:
    for folder, inner, names in os.walk(root):
        inner[:] = [name for name in inner if name not in (".git", "components")]
        for name in names:
            path = Path(folder, name)
            if path.is_file():
                yield str(path), path.read_bytes()


def remains(
    files: Iterator[tuple[str, bytes]], wanted: dict[str, np.ndarray], hashes: set[str]
) -> list[str]:
    """The files that are a photo, or show one."""
    found = []
    for path, data in files:
        if sha256_bytes(data) in hashes:
            found.append(path)
            continue
        for image in _pictures(data):
            near = (
                name
                for window in _windows(image)
                for name, small in wanted.items()
                if np.abs(window - small).mean() < 8
            )
            if name := next(near, None):
                found.append(f"{path} shows {name}")
                break
    return found


def audited(version: int, *, deep: bool = True) -> Audit:
    with collect(f"{support.MODEL}/{version}") as evidence:
        return audit(evidence, deep=deep)


def said(answer: Audit) -> str:
    return "\n".join(finding.line() for finding in answer.findings)


@pytest.fixture
def whole(copied: Path, project: Path) -> Path:
    """The copy with runs/ and a cache, as after a run, and an old version that shows photos."""
    shutil.copytree(project / "runs", copied / "runs")
    (copied / ".state/cache/distill").mkdir(parents=True)
    shutil.copy("data/made/photos/Tp/Tp0.png", ".state/cache/distill/kept")
    shutil.copy("data/made/photos/Tp/Tp3.png", "runs/copy.png")
    return copied


def test_no_file_of_a_version_shows_a_photo(project: Path, standing: Callable) -> None:
    standing(project)
    for version in (1, 2):
        with collect(f"{support.MODEL}/{version}") as evidence:
            files = [p for p in evidence.files.rglob("*") if p.is_file()]
            assert [p for p in files if erasure.shows(p) and "code" not in p.parts] == []
            assert (evidence.files / "evaluation/made/report.html").is_file()
            stage = {row["path"] for row in evidence.stage("evaluate@made")["outs"]}
            assert "runs/evaluate/made/photos.html" in stage


def test_nothing_of_erased_photos_is_left_and_audits_say_why(whole: Path) -> None:
    wanted = pixels(NAMES)
    stones = plan()
    hashes = {stone.sha256 for stone in stones}
    before = remains(contents(whole), wanted, hashes)
    assert len(before) > 10
    assert any("photos.html" in path for path in before)
    assert any("contact_sheet.png" in path for path in before)
    assert {p.name for p in Path("tombstones").glob("*")} == set()  # nothing was changed
    done = erasure.erase(stones)
    assert done.objects >= 2 * len(NAMES)
    assert remains(contents(whole), wanted, hashes) == []
    left = {image["file_name"] for image in load("data/made").images}
    assert len(left) == 15
    assert not left & set(NAMES)
    assert not any(name in Path("data/made/import.csv").read_text() for name in NAMES)
    for version in (1, 2):
        answer = audited(version)
        assert answer.verdict == Verdict.VERIFIED, said(answer)
        assert "by tombstone (erased" in said(answer)
        with collect(f"{support.MODEL}/{version}") as evidence:
            rows = photos.rows(evidence)
            assert sum(row["erased"] for row in rows) == len(NAMES)
            with pytest.raises(CheckError, match=r"cannot be replayed exactly: \d of its photos"):
                prepare(evidence, whole / "again")
            bundle.export(evidence, whole / "case.tar", photos=True)
        with bundle.opened(whole / "case.tar") as evidence:
            assert audit(evidence, deep=True).verdict == Verdict.VERIFIED
    assert plan() == stones  # the same command again, after all is gone
    assert erasure.erase(stones) == Erased(0, 0, [])


COMMAND = [
    *(f"{BIN}/iml", "dataset", "erase", *NAMES),
    *("--dataset", "made", "--reason", "asked for", "--by", "ann", "--json"),
]


def test_killed_it_is_finished_by_the_same_command(whole: Path) -> None:
    wanted = pixels(NAMES)
    environment = {**os.environ, "PYTHONPATH": str(support.ROOT)}
    running = subprocess.Popen(
        COMMAND, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    limit = time.monotonic() + 240
    while len(list(Path("tombstones").glob("[!.]*.json"))) < len(NAMES):
        assert running.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    answer = audited(1)
    assert "has a tombstone, but is still in the remote: erase it again" in said(answer)
    assert answer.verdict == Verdict.BROKEN
    done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    hashes = {stone["sha256"] for stone in told["tombstones"]}
    assert len(hashes) == len(NAMES)
    assert told["champions"] == [f"{support.MODEL}/1"]
    assert remains(contents(whole), wanted, hashes) == []
    assert audited(1).verdict == Verdict.VERIFIED, said(audited(1))


def test_what_cannot_be_erased_is_refused(copied: Path) -> None:
    with pytest.raises(InputError, match=r"there is no photo 'Tp/none\.png'"):
        plan(["Tp/none.png"])
    everyone = [image["file_name"] for image in load("data/made").images]
    with pytest.raises(InputError, match="no photo would be left"):
        plan(everyone)
    # A person who only looks is told what would go.
    words = (
        "dataset",
        "erase",
        "Tp/Tp0.png",
        "--dataset",
        "made",
        "--reason",
        "asked",
        "--dry-run",
    )
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.exception
    assert "Would erase from made" in done.stdout
    assert f"{support.MODEL}/1 (train)" in " ".join(done.stdout.split())
    assert len(load("data/made").images) == 20
    assert not Path("tombstones").exists()
    # A retraining cannot follow where nothing is erased.
    assert isinstance(CliRunner().invoke(app, (*words, "--retrain")).exception, InputError)


def test_a_version_that_cannot_be_read_may_have_used_the_photos(copied: Path) -> None:
    with collect(f"{support.MODEL}/1") as evidence:
        md5 = evidence.outs()[str(paths.MANIFEST)]
    (copied / f".state/dvc-remote/files/md5/{md5[:2]}/{md5[2:]}").unlink()
    for stone in plan(["Tp/Tp0.png", "Tp/Tp9.png"]):
        assert stone.versions[f"{support.MODEL}/1"] == "?"
        assert stone.trained(f"{support.MODEL}/1")


def test_a_version_trained_on_an_erased_photo_can_be_kept_from_promotion(copied: Path) -> None:
    for stone in plan(["Tp/Tp0.png", "Tp/Tp9.png"]):
        tombstones.write(stone)
    promotion.refuse_erased(support.MODEL, 1)  # nothing asks for it
    values = yaml.safe_load(Path("params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump({**values, "erasure": {"retire": True}}))
    with pytest.raises(
        CheckError, match=r"trained on a photo that was erased .* by ann: asked for"
    ):
        promotion.refuse_erased(support.MODEL, 1)
    for path in Path("tombstones").glob("*.json"):
        if json.loads(path.read_text())["versions"][f"{support.MODEL}/1"] != "test":
            path.unlink()
    promotion.refuse_erased(support.MODEL, 1)  # scored on it only


def test_a_retraining_differs_only_by_the_photos(whole: Path, campaigns: bool) -> None:
    if not campaigns:
        pytest.skip("every stage again: with --campaigns")
    before = pd.read_parquet(paths.MANIFEST)
    stones = plan()
    erasure.erase(stones)
    support.commit(whole, "erased")
    support.run_stages()
    gone = before["sha256"].isin([stone.sha256 for stone in stones])
    after = pd.read_parquet(paths.MANIFEST)
    same = ["image_id", "path", "sha256", "label", "mask_sha256", "n_boxes"]
    left = before.loc[~gone, same].reset_index(drop=True)
    pd.testing.assert_frame_equal(after[same], left)
    assert support.register(whole) == 3
    for version in (1, 2, 3):
        assert audited(version).verdict == Verdict.VERIFIED, said(audited(version))


def test_nothing_is_left_on_s3(whole: Path, s3: str, campaigns: bool) -> None:
    if not campaigns:
        pytest.skip("a server process and a push: with --campaigns")
    client = support.on_s3(whole, s3)

    def bucket() -> Iterator[tuple[str, bytes]]:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket="audit")
        for row in (row for page in pages for row in page.get("Contents", [])):
            yield row["Key"], client.get_object(Bucket="audit", Key=row["Key"])["Body"].read()

    wanted = pixels(NAMES)
    stones = plan()
    hashes = {stone.sha256 for stone in stones}
    assert len(remains(bucket(), wanted, hashes)) >= len(NAMES)
    erasure.erase(stones)
    assert remains(bucket(), wanted, hashes) == []
    assert remains(contents(whole), wanted, hashes) == []
    for version in (1, 2):
        assert audited(version).verdict == Verdict.VERIFIED, said(audited(version))
