"""Stage `validate`, run as DVC runs it: exit code, one line, files that stay."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.data import manifest
from components.data.manifest import Manifest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """params.yaml as committed, a prepared manifest of six photos and their files."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    rows = []
    for number, split in enumerate(("train", "train", "val", "val", "test", "test")):
        name = f"{number}.jpg"
        path = tmp_path / "data" / "demo" / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        label = ("authentic", "manipulated")[number % 2]
        row = {"image_id": name, "path": f"demo/photos/{name}", "sha256": f"{number:064x}"}
        row |= {"label": label, "split": split, "group": name, "phash": f"{number:016x}"}
        row |= {"dataset": "demo", "pool": False}
        rows.append(row | {"width": 64, "height": 48, "n_boxes": number % 2, "source": "made"})
    absent = ["mask_path", "mask_sha256", "mask_width", "mask_height", "kind"]
    images = pd.DataFrame(rows).assign(**dict.fromkeys(absent, None))
    boxes = pd.DataFrame({"image_id": ["1.jpg", "3.jpg", "5.jpg"]})
    boxes = boxes.assign(x0=4.0, y0=4.0, x1=40.0, y1=30.0, annotator=None, seconds=np.nan)
    manifest.write(tmp_path / "runs" / "prepare", Manifest(images, boxes))
    return tmp_path


def run(workspace: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "components.validate"]
    return subprocess.run(
        command,
        cwd=workspace,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(workspace)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_sound_data_set_goes_on_and_gives_the_same_bytes_again(workspace: Path) -> None:
    first = run(workspace)
    assert (first.returncode, first.stderr) == (0, "")
    files = [workspace / "runs" / "validate" / name for name in ("result.json", "report.html")]
    before = [file.read_bytes() for file in files]
    assert json.loads(before[0])["passed"] is True
    assert b"<b>Passed</b>" in before[1]
    assert run(workspace).returncode == 0
    assert [file.read_bytes() for file in files] == before


def test_a_critical_fault_stops_with_one_line_and_leaves_the_report(workspace: Path) -> None:
    (workspace / "data" / "demo" / "photos" / "3.jpg").unlink()
    done = run(workspace)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: data/demo: ")
    assert "1 of 6 (3.jpg)" in line
    assert "dvc checkout" in line
    result = json.loads((workspace / "runs" / "validate" / "result.json").read_text())
    assert (result["passed"], result["critical_failed"]) == (False, 1)
    assert "3.jpg" in (workspace / "runs" / "validate" / "report.html").read_text()


def test_without_a_manifest_it_says_what_to_do(workspace: Path) -> None:
    shutil.rmtree(workspace / "runs")
    done = run(workspace)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "runs/prepare/manifest.parquet" in line
