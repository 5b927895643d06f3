"""A sound data set, written to disk, that each test spoils in one way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from components.core.params import Validate
from components.data.manifest import Manifest
from components.validate.report import Report
from components.validate.suite import validate

SPLITS = ("train", "train", "val", "test")
PHOTOS = 16


def _image(number: int) -> dict:
    manipulated = number % 2 == 1
    name = f"photo-{number:02d}.jpg"
    return {
        "image_id": name,
        "dataset": "made",
        "pool": False,
        "path": f"photos/{name}",
        "sha256": f"{number:064x}",
        "width": 200,
        "height": 100,
        "label": "manipulated" if manipulated else "authentic",
        "mask_path": f"masks/{name}.png" if manipulated else None,
        "mask_sha256": f"{number + 100:064x}" if manipulated else None,
        "mask_width": 200.0 if manipulated else np.nan,
        "mask_height": 100.0 if manipulated else np.nan,
        "split": SPLITS[number // 2 % 4],
        "group": f"group-{number // 2:02d}",
        "source": "made",
        "kind": None,
        "phash": f"{number:016x}",
        "n_boxes": 2 if manipulated else 0,
    }


@dataclass
class Made:
    """A data set folder and its manifest; spoil the frames, then judge."""

    root: Path
    images: pd.DataFrame
    boxes: pd.DataFrame
    params: Validate

    @property
    def manifest(self) -> Manifest:
        return Manifest(self.images, self.boxes)

    def judge(self) -> Report:
        return validate(self.manifest, self.root, self.params)

    def set_photo(self, number: int, **values: object) -> str:
        """Change fields of one photo; returns the id it had."""
        name = self.images.loc[number, "image_id"]
        for column, value in values.items():
            self.images.loc[number, column] = value
        return str(name)

    def set_box(self, row: int, *corners: float) -> str:
        """Change the corners of one box; returns its photo's id."""
        self.boxes.loc[row, ["x0", "y0", "x1", "y1"]] = corners
        return str(self.boxes.loc[row, "image_id"])

    def add_box(self, image_id: str, *corners: float) -> str:
        """Add a box to the end."""
        row = dict(zip(("x0", "y0", "x1", "y1"), corners, strict=True))
        added = pd.DataFrame([{"image_id": image_id, **row, "annotator": "a", "seconds": 7.0}])
        self.boxes = pd.concat([self.boxes, added], ignore_index=True)
        return image_id

    def drop_boxes(self, image_id: str) -> str:
        """Remove a photo's boxes."""
        self.boxes = self.boxes[self.boxes["image_id"] != image_id].reset_index(drop=True)
        return image_id


def make(root: Path) -> Made:
    """16 photos, half of them manipulated with two boxes each, in 8 groups and 3 splits."""
    images = pd.DataFrame([_image(number) for number in range(PHOTOS)])
    rows = []
    for name in images.loc[images["label"] == "manipulated", "image_id"]:
        rows.append({"image_id": name, "x0": 10.0, "y0": 10.0, "x1": 60.0, "y1": 50.0})
        rows.append({"image_id": name, "x0": 100.5, "y0": 20.0, "x1": 200.0, "y1": 100.0})
    boxes = pd.DataFrame(rows).assign(annotator="a", seconds=7.0)
    for path in [*images["path"], *images["mask_path"].dropna()]:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    params = Validate(min_side=3.0, min_area=16.0, max_area_share=0.95, min_class_share=0.05)
    return Made(root, images, boxes, params)
