"""A small data set of the demo's kind with all that a format may or may not hold."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from ingest_support import SETTINGS
from project import ROOT

from components.core.images import open_mask
from components.data import dataset as datasets
from components.ingest.exporting import Exported, export_dataset
from components.ingest.formats.record import Box
from components.ingest.formats.regions import from_array
from components.ingest.writers import regions
from components.synthesis.synthesize import synthesize

RENAMED = {0: "deep/er/ünïcode and spaces.jpg", 3: "images/same.jpg", 4: "deep/same.jpg"}
RecordProperty = Callable[[str, object], None]
FORMATS = ("coco", "yolo", "voc", "cvat", "label-studio")


@pytest.fixture(scope="session")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photos in one folder, of three splits; some boxes with a region, one photo with two
    boxes, one without that is known to be manipulated.
    """
    root = tmp_path_factory.mktemp("export") / "demo"
    photos = sorted((ROOT / "data/demo-sources/photos").glob("*.jpg"))[:6]
    cutouts = sorted((ROOT / "data/demo-sources/cutouts").glob("*.png"))[:3]
    synthesize(
        root,
        photos,
        cutouts,
        manipulated=8,
        authentic=4,
        seed=7,
        jitter=0.1,
        licence="CC0-1.0",
        source="test",
        size=(96, 64),
        workers=1,
    )
    made = datasets.load(root)
    for number, image in enumerate(made.images):
        image["split"] = ("train", "val", "test")[number % 3]
        image["origins"] = [f"origin{number // 2}"]
    _spice(made)
    datasets.save(replace(made, split="given"))
    return root


@pytest.fixture(scope="session")
def demo(flat: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with some photos in folders, two of one name, one with a name in no plain ASCII."""
    root = tmp_path_factory.mktemp("nested") / "demo"
    shutil.copytree(flat, root)
    made = datasets.load(root)
    for number, name in RENAMED.items():
        image = made.images[number]
        (root / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "photos" / image["file_name"]).rename(root / "photos" / name)
        image["file_name"] = name
    datasets.save(made)
    return root


def _spice(made: datasets.Dataset) -> None:
    """Regions of each form, seconds, a second box, a photo without one."""
    images = {image["id"]: image for image in made.images}
    for number, row in enumerate(made.annotations):
        image = images[row["image_id"]]
        mask = open_mask(made.root / image["mask"])
        row |= {"seconds": 5.5 + number, "annotator": f"person {number % 2}"}
        if number == 1:
            ring = mask & ~cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
            row["segmentation"] = from_array(ring)
        elif number == 2:
            row["segmentation"] = regions.rings(from_array(mask), mask.shape[::-1])[:1]
        elif number == 3:
            x, y, width, height = (round(value) for value in row["bbox"])
            row["segmentation"] = [
                [x, y, x + width / 2, y, x, y + height / 2],
                [x + width, y + height, x + width / 2, y + height, x + width, y + height / 2],
            ]
    first = made.annotations[0]
    made.annotations.append({**first, "id": 999, "bbox": [1.25, 2.5, 20.75, 15.5], "seconds": 3.5})
    last = made.images[7]["id"]
    made.annotations[:] = [row for row in made.annotations if row["image_id"] != last]


def export(root: Path, out: Path, format: str, **options: bool | float) -> Exported:
    return export_dataset(root, out, format, SETTINGS, **options)


def corners(box: Box) -> np.ndarray:
    """x0, y0, x1, y1."""
    return np.array([box.x, box.y, box.x + box.width, box.y + box.height])
