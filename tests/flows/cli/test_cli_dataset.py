"""`iml dataset` through its own parser, in a workspace of its own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from components.core.errors import CheckError, InputError
from flows.cli.dataset import app

ROOT = Path(__file__).parents[3]


def photo(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((96, 64), Image.Resampling.BICUBIC).save(path, quality=92)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


@pytest.fixture
def source(workspace: Path) -> Path:
    root = workspace / "incoming"
    for number in range(12):
        photo(root / "Tp" / f"forged{number}.jpg", number)
        mask = np.zeros((64, 96), np.uint8)
        mask[20:44, 10 : 50 + number] = 255
        (root / "Gt").mkdir(exist_ok=True)
        Image.fromarray(mask).save(root / "Gt" / f"forged{number}_gt.png")
        photo(root / "Au" / f"plain{number}.jpg", 100 + number)
    return root


def iml(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_import_then_info_then_check(source: Path) -> None:
    done = iml("import", source, "--name", "made", "--licence", "CC0", "--no-track", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["photos"], report["manipulated"], report["boxes"]) == (24, 12, "simulate")
    assert report["tracked"] is False

    info = json.loads(iml("info", "made", "--json").stdout)
    assert (info["photos"], info["boxes"], info["licence"]) == (24, 12, "CC0")
    assert sum(sum(counts.values()) for counts in info["splits"].values()) == 24
    table = iml("info", "data/made")
    assert "quarantined" in table.stdout

    check = iml("check", "made", "--json")
    assert json.loads(check.stdout)["passed"] is True, check.stdout
    assert check.exit_code == 0


def test_check_names_what_would_stop_the_pipeline(source: Path) -> None:
    iml("import", source, "--name", "made", "--no-track")
    broken = Path("data/made/photos/Au/plain3.jpg")
    broken.unlink()
    broken.write_bytes(b"")
    check = iml("check", "made", "--json")
    assert check.exit_code == 1
    report = json.loads(check.stdout)
    assert report["passed"] is False
    assert any("plain3.jpg: empty file" in row["problem"] for row in report["problems"])
    assert "the pipeline would stop" in iml("check", "made").stdout


def test_check_allows_as_many_unusable_photos_as_the_pipeline(source: Path) -> None:
    iml("import", source, "--name", "made", "--no-track")
    broken = Path("data/made/photos/Au/plain3.jpg")
    broken.unlink()
    broken.write_bytes(b"")
    params = Path("params.yaml")
    params.write_text(re.sub(r"max_quarantined: \d+", "max_quarantined: 1", params.read_text()))
    check = iml("check", "made", "--json")
    report = json.loads(check.stdout)
    assert (check.exit_code, report["passed"]) == (0, True)
    (row,) = [row for row in report["problems"] if "plain3.jpg" in row["problem"]]
    assert row["severity"] == "warning"


def boxes_alone(root: Path) -> Path:
    """A COCO source of 24 photos, 12 with a box, none with a mask."""
    images, boxes = [], []
    for number in range(24):
        photo(root / f"{number}.jpg", number)
        images.append({"id": number, "file_name": f"{number}.jpg"})
        if number % 2:
            boxes.append({"id": number, "image_id": number, "category_id": 1})
            boxes[-1]["bbox"] = [10, 20, 30, 16]
    index = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "x"}]}
    (root / "annotations.json").write_text(json.dumps(index))
    return root


def test_test_photos_that_cannot_decide_are_named_at_import_and_check(workspace: Path) -> None:
    done = iml("import", boxes_alone(workspace / "drawn"), "--name", "made", "--no-track", "--json")
    tested = json.loads(iml("info", "made", "--json").stdout)["splits"]["test"]["manipulated"]
    said = (
        f"0 of {tested} manipulated test photos have a true mask: nothing trained on this can be "
        "promoted; give masks for the test photos, or name another test set "
        "(evaluate.gate_dataset in params.yaml)"
    )
    at_import = said.replace(f"{tested} manipulated test photos", "12 manipulated photos")
    assert json.loads(done.stdout)["notes"][-1] == at_import
    check = iml("check", "made", "--json")
    report = json.loads(check.stdout)
    assert (check.exit_code, report["passed"], report["promotable"]) == (0, True, False)
    assert said in [row["problem"] for row in report["problems"]]
    assert "nothing trained on it could be promoted" in iml("check", "made").stdout

    # Another data set decides: one with masks, and one without.
    params = Path("params.yaml")
    evaluated = "datasets: [demo]            # folders under data/"
    assert evaluated in params.read_text()
    text = params.read_text().replace(evaluated, "datasets: [demo, bench]  # folders")
    params.write_text(text.replace("gate_dataset: null", "gate_dataset: bench"))
    assert json.loads(iml("check", "made", "--json").stdout)["promotable"] is True
    iml("import", boxes_alone(workspace / "bench"), "--name", "bench", "--no-track")
    assert json.loads(iml("check", "made", "--json").stdout)["promotable"] is True
    bench = json.loads(iml("check", "bench", "--json").stdout)
    assert "0 of 12 manipulated test photos" in bench["problems"][0]["problem"]


def test_bad_rows_need_quarantine(source: Path) -> None:
    (source / "Au" / "plain0.jpg").write_text("not a photo")
    refused = iml("import", source, "--name", "made", "--no-track")
    assert isinstance(refused.exception, InputError)
    assert "--quarantine" in str(refused.exception)
    assert not Path("data/made").exists()
    done = iml("import", source, "--name", "made", "--no-track", "--quarantine", "--json")
    assert json.loads(done.stdout)["quarantined"] == 1


def test_an_import_says_what_became_of_everything(source: Path) -> None:
    (source / "Au" / "plain0.jpg").write_text("not a photo")
    (source / "Au" / "scan.gif").write_bytes(b"GIF89a")
    for number in range(3):
        (source / f"notes{number}.txt").write_text("x")
    dry = iml("import", source, "--name", "made", "--dry-run")
    assert "plain0.jpg: not a" in str(dry.exception)
    assert "--quarantine" in str(dry.exception)
    assert not Path("data").exists()
    dry = iml("import", source, "--name", "made", "--dry-run", "--quarantine")
    done = iml("import", source, "--name", "made", "--no-track", "--quarantine")
    for shown in (dry, done):
        assert shown.exit_code == 0, shown.output
        assert re.search(r"taken +23\b", shown.stdout)
        assert re.search(r"left out +3 +notes0\.txt: not a file of this format", shown.stdout)
        assert re.search(r"left out +1 +Au/scan\.gif: a photo format that is not", shown.stdout)
    again = iml("import", source, "--into", "made", "--dry-run", "--json")
    listed = json.loads(again.stdout)["outcomes"]
    assert len(listed) == len([path for path in source.rglob("*") if path.is_file()])
    assert {"what": "notes2.txt", "outcome": "left out", "reason": "not a file of this format"} in (
        listed
    )


def test_masks_are_inverted_or_kept_as_said(source: Path) -> None:
    for path in (source / "Gt").iterdir():
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    refused = iml("import", source, "--name", "made", "--no-track")
    assert "--invert-masks" in str(refused.exception)
    assert iml("import", source, "--name", "kept", "--no-track", "--keep-masks").exit_code == 0
    done = iml("import", source, "--name", "made", "--no-track", "--invert-masks")
    assert re.search(r"noted +12 +Tp/forged0\.jpg: mask inverted", done.stdout)


def test_photos_without_annotations_need_to_be_said_to_be_authentic(source: Path) -> None:
    pool = source / "Au"
    refused = iml("import", pool, "--name", "pool", "--no-track")
    assert "no annotations found; --authentic" in str(refused.exception)
    done = iml("import", pool, "--name", "pool", "--no-track", "--authentic", "--json")
    assert json.loads(done.stdout)["authentic"] == 12


@pytest.mark.parametrize("name", ["../outside", "a/b", "", ".hidden"])
def test_a_name_is_not_a_path(source: Path, name: str) -> None:
    refused = iml("import", source, "--name", name, "--no-track")
    assert isinstance(refused.exception, InputError)
    assert "is not a name" in str(refused.exception)


def test_tracking_is_dvc_add(source: Path, workspace: Path) -> None:
    dvc = Path(sys.executable).parent / "dvc"
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run([dvc, "init", "--quiet"], check=True)
    done = iml("import", source, "--name", "made", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["tracked"] is True
    assert (workspace / "data" / "made.dvc").is_file()
    assert "made" in (workspace / "data" / ".gitignore").read_text()


def test_an_import_that_cannot_be_tracked_leaves_nothing(source: Path, workspace: Path) -> None:
    failed = iml("import", source, "--name", "made")  # no DVC repository here
    assert isinstance(failed.exception, CheckError)
    assert sorted(path.name for path in workspace.iterdir()) == ["incoming", "params.yaml"]


def test_tables_speak_english_and_fit(workspace: Path) -> None:
    drawn = boxes_alone(workspace / "drawn")
    (drawn / "22.jpg").write_text("no photo")
    done = iml("import", drawn, "--name", "made", "--no-track", "--quarantine")
    masks = iml("import", drawn, "--name", "again", "--no-track", "--quarantine")
    more = iml("import", drawn, "--into", "made", "--no-track")
    for shown in (done, masks, more, iml("check", "made"), iml("info", "made")):
        lines = shown.stdout.splitlines()
        table = lines[: next(n for n, line in enumerate(lines[2:], 2) if not line.strip()) + 1]
        assert max(map(len, table)) <= 80
        for python in ("True", "False", "None", "[", "simulate", "grouped"):
            assert python not in "\n".join(table)
    assert "drawn by source group" in done.stdout
    assert re.search(r"tracked\s+no", done.stdout)
    assert re.search(r"noted +23 +\d+\.jpg: in the data set already", more.stdout)
    assert re.search(r"left out +1 +22\.jpg: not a", more.stdout)


def test_replace_brings_corrections_back(workspace: Path) -> None:
    source = boxes_alone(workspace / "drawn")
    iml("import", source, "--name", "made", "--no-track")
    index = json.loads((source / "annotations.json").read_text())
    index["annotations"][0]["bbox"] = [12, 20, 30, 16]
    (source / "annotations.json").write_text(json.dumps(index))
    left = iml("import", source, "--into", "made", "--no-track", "--json")
    assert json.loads(left.stdout)["outcomes"][-1] == {
        "what": "1.jpg",
        "outcome": "left out",
        "reason": "known, but with other boxes: --replace takes them",
    }
    dry = iml("import", source, "--into", "made", "--replace", "--dry-run")
    assert re.search(r"noted +1 +1\.jpg: boxes replaced: 1 instead of 1", dry.stdout)
    for changed in (1, 0):
        done = iml("import", source, "--into", "made", "--replace", "--no-track", "--json")
        assert json.loads(done.stdout)["replaced"] == changed
    refused = iml("import", source, "--name", "other", "--replace")
    assert "--replace needs --into" in str(refused.exception)


def test_corrections_are_tracked(workspace: Path) -> None:
    dvc = Path(sys.executable).parent / "dvc"
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run([dvc, "init", "--quiet"], check=True)
    source = boxes_alone(workspace / "drawn")
    iml("import", source, "--name", "made")
    index = (source / "annotations.json").read_text()
    (source / "annotations.json").write_text(index.replace("[10, 20, 30, 16]", "[12, 20, 30, 16]"))
    hashes = [Path("data/made.dvc").read_text()]
    for _ in range(2):
        done = iml("import", source, "--into", "made", "--replace")
        assert done.exit_code == 0, done.output
        hashes.append(Path("data/made.dvc").read_text())
    assert hashes[0] != hashes[1] == hashes[2]


def test_synthesize_makes_a_data_set(workspace: Path) -> None:
    for number in range(6):
        coarse = np.random.default_rng(number).integers(0, 256, (24, 36, 3), dtype=np.uint8)
        (workspace / "photos").mkdir(exist_ok=True)
        Image.fromarray(coarse).resize((480, 320)).save(workspace / "photos" / f"{number}.jpg")
        cutout = np.zeros((160, 160, 4), np.uint8)
        cutout[30:130, 30:130] = (200, 40 * number, 20, 255)
        (workspace / "cutouts").mkdir(exist_ok=True)
        Image.fromarray(cutout).save(workspace / "cutouts" / f"{number}.png")
    done = iml(
        *("synthesize", "--name", "made", "--photos", "photos", "--cutouts", "cutouts"),
        *("--manipulated", "6", "--authentic", "3", "--no-track", "--json"),
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["photos"] == 9
    info = json.loads(iml("info", "made", "--json").stdout)
    assert info["photos"] == 9


def test_synthesize_from_an_empty_folder_says_so(workspace: Path) -> None:
    (workspace / "photos").mkdir()
    (workspace / "photos" / "._0.jpg").write_bytes(b"what macOS leaves beside a file")
    refused = iml("synthesize", "--name", "made", "--photos", "photos", "--no-track")
    assert isinstance(refused.exception, InputError)
    assert "photos: no photos in this folder" in str(refused.exception)


def test_export_says_what_is_not_kept(workspace: Path) -> None:
    iml("import", boxes_alone(Path("in")), "--name", "made", "--no-track")
    done = iml("export", "made", "--format", "yolo", "--out", "out", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["photos"], report["boxes"], report["regions"]) == (24, 12, 0)
    assert report["not_kept"] == {"licence": 1}
    assert report["pseudo_masks"] is None
    assert len(list(Path("out/labels").iterdir())) == 24
    table = iml("export", "made", "--format", "yolo", "--out", "again").stdout
    assert re.search(r"Not kept.*licence\s+1", table, re.S)
    for arguments, why in (
        (("--format", "yolo", "--out", "out"), "exists already"),
        (("--format", "dota", "--out", "new"), "unknown format 'dota'"),
        (("--format", "coco", "--out", "new", "--masks"), "no such file"),
    ):
        refused = iml("export", "made", *arguments)
        assert isinstance(refused.exception, InputError)
        assert why in str(refused.exception)
        assert not Path("new").exists()
