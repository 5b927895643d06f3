"""`--campaigns`: annotation tools' own code reads what is written here, and writes what is read."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from project import ROOT
from writers_support import RecordProperty, corners, export, flat  # noqa: F401

from components.core.files import held
from components.data import dataset as datasets
from components.ingest.formats import registry
from components.ingest.formats.record import Record
from components.ingest.writers import regions

HOME = ROOT / ".state" / "annotation-tools"
NEEDED = ("datumaro==1.13.*", "label-studio-sdk==2.1.*", "supervision==0.31.*")
Tools = Callable[..., str]


@pytest.fixture(scope="session")
def tools(campaigns: bool) -> Tools:
    """Runs `annotation_tools.py` in an environment of the tools' own, kept between runs."""
    if not campaigns:
        pytest.skip("a campaign: `make verify` installs the tools")
    python = HOME / "bin" / "python"
    with held(HOME.with_suffix(".lock"), "another test run installs the tools"):
        if not python.exists():
            install()

    def run(*arguments: str | Path) -> str:
        script = ROOT / "tests" / "annotation_tools.py"
        command = [str(argument) for argument in (python, script, *arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run


def install() -> None:
    """Into `HOME`, from the package index that pip is configured for; skips without one."""
    new = HOME.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", new], check=True)
    command = [str(new / "bin" / "python"), "-m", "pip", "install", "--quiet", *NEEDED]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the tools cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    new.rename(HOME)


@pytest.fixture(scope="session")
def plain(flat: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set without regions and splits."""
    root = tmp_path_factory.mktemp("plain") / "demo"
    shutil.copytree(flat, root)
    made = datasets.load(root)
    for row in made.annotations:
        row.pop("segmentation", None)
    datasets.save(replace(made, split="grouped"))
    return root


class Case(NamedTuple):
    """A tool and how it calls a format."""

    tool: str
    name: str
    format: str
    off: float = 0.01  # pixels that a box may be off


# CVAT: datumaro leaves out photos of another subset than its file is named after, as CVAT's are.
# YOLO: datumaro reads boxes and leaves out photos with polygons. VOC: it counts pixels from 0.
READ = (
    (Case("datumaro", "coco", "coco"), "flat"),
    (Case("datumaro", "coco_instances", "coco"), "plain"),
    (Case("datumaro", "yolo", "yolo"), "plain"),
    (Case("datumaro", "voc_detection", "voc", 1.51), "flat"),
    (Case("datumaro", "cvat", "cvat"), "plain"),
    (Case("supervision", "coco", "coco"), "flat"),
    (Case("supervision", "yolo", "yolo", 1.0), "flat"),
    (Case("supervision", "voc", "voc", 1.0), "flat"),
    (Case("label-studio", "tasks", "label-studio", 1.0), "flat"),
)


@pytest.mark.parametrize(
    ("case", "data"), READ, ids=[f"{case.tool}-{case.name}-{data}" for case, data in READ]
)
def test_tools_read_what_is_written(
    case: Case,
    data: str,
    tools: Tools,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    record_property: RecordProperty,
) -> None:
    out = tmp_path / "out"
    made = export(request.getfixturevalue(data), out, case.format)
    seen = json.loads(tools("read", case.tool, case.name, out).splitlines()[-1])
    expected = {record.name: expect(record, case.format) for record in made.records}
    compare(expected, {name: np.array(rows).reshape(-1, 4) for name, rows in seen.items()}, case)
    record_property("boxes compared", sum(map(len, expected.values())))


def expect(record: Record, format: str) -> np.ndarray:
    """The boxes that a photo has in a file of this format; (N, 4)."""
    boxes = [corners(box) for box in record.boxes]
    for i, box in enumerate(record.boxes):
        if box.region is not None and format in ("yolo", "cvat", "label-studio"):
            boxes[i] = np.array(regions.bounds(regions.decode(box.region, record.size)))
    return np.array(boxes).reshape(-1, 4)


def compare(expected: dict[str, np.ndarray], seen: dict[str, np.ndarray], case: Case) -> None:
    """Each photo has the boxes expected, in any order."""
    assert sorted(seen) == sorted(expected)
    for name, boxes in expected.items():
        assert len(seen[name]) == len(boxes), name
        for box in boxes:
            off = np.abs(seen[name] - box).max(axis=1).min()
            assert off <= case.off, (name, box, seen[name])


# Label Studio and datumaro count the pixels of VOC from 0; Label Studio cuts off what follows the
# point, and writes no file for a photo without boxes, which is then left out by name.
WRITTEN = (
    Case("datumaro", "coco", "coco"),
    Case("datumaro", "coco_instances", "coco"),
    Case("datumaro", "yolo_ultralytics", "yolo"),
    Case("datumaro", "voc", "voc", 1.01),
    Case("datumaro", "cvat", "cvat"),
    Case("datumaro", "label_me", "labelme", 1.0),
    Case("supervision", "coco", "coco"),
    Case("supervision", "yolo", "yolo"),
    Case("supervision", "voc", "voc", 1.0),
    Case("label-studio", "tasks", "label-studio"),
    Case("label-studio", "brush", "label-studio", 0.51),
    Case("label-studio", "coco", "coco"),
    Case("label-studio", "yolo", "yolo"),
    Case("label-studio", "voc", "voc", 2.0),
)


@pytest.mark.parametrize("case", WRITTEN, ids=[f"{case.tool}-{case.name}" for case in WRITTEN])
def test_what_tools_write_is_read(
    case: Case, tools: Tools, plain: Path, tmp_path: Path, record_property: RecordProperty
) -> None:
    records = export(plain, tmp_path / "plain", "coco").records
    expected = {record.name: expect(record, "coco") for record in records}
    boxes = {name: rows.tolist() for name, rows in expected.items()}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    out = tmp_path / "out"
    tools("write", case.tool, case.name, tmp_path / "boxes.json", plain / "photos", out)
    reading = registry.read(out)
    assert not [record.problem for record in reading.records if record.problem]
    seen = {
        Path(record.name).name: np.array([corners(box) for box in record.boxes]).reshape(-1, 4)
        for record in reading.records
    }
    left = {Path(what).name for what, _ in reading.left}
    told = {name: rows for name, rows in expected.items() if len(rows) or name not in left}
    compare(told, seen, case)
    record_property("boxes compared", sum(map(len, told.values())))
