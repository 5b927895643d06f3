"""Small data sets on disk with manifest rows, and predictors with a known answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.core.files import sha256_file
from components.core.images import save_grey, save_photo
from components.core.params import Evaluate, Robustness
from components.data.manifest import BOXES, IMAGES, Manifest
from components.evaluate.gallery import Album


@pytest.fixture
def params() -> Evaluate:
    levels = Robustness(jpeg=[], blur=[], noise=[], resize=[], social=[])
    return Evaluate(
        datasets=["d"], bootstrap=200, confidence=0.95, seed=7, threads=1, robustness=levels
    )


def _row(root: Path, name: str, photo: np.ndarray, **given: object) -> dict[str, object]:
    save_photo(root / "photos" / name, photo)
    row: dict[str, object] = dict.fromkeys(IMAGES.names)
    return row | {
        "image_id": name,
        "dataset": root.name,
        "pool": False,
        "path": f"photos/{name}",
        "sha256": sha256_file(root / "photos" / name),
        "height": photo.shape[0],
        "width": photo.shape[1],
        "group": name,
        "source": "made",
        "split": "test",
        "n_boxes": 0,
        **given,
    }


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., tuple[pd.DataFrame, Path]]:
    """Photos whose red channel is the answer: `red / 255` is what `red_channel` predicts."""

    def make(
        manipulated: int = 4, authentic: int = 3, size: tuple[int, int] = (24, 32)
    ) -> tuple[pd.DataFrame, Path]:
        random = np.random.default_rng(5)
        rows = []
        for number in range(manipulated + authentic):
            photo = random.integers(0, 255, (*size, 3), dtype=np.uint8)
            photo[..., 0] //= 4
            if number >= manipulated:
                rows.append(_row(tmp_path, f"a{number:03}.png", photo, label="authentic"))
                continue
            mask = np.zeros(size, dtype=np.uint8)
            mask[4:12, 6:16] = 255
            photo[4:12, 6:16, 0] = 200
            save_grey(tmp_path / "masks" / f"m{number:03}.png", mask)
            kind = "splice/free" if number % 2 else "copy-move/geometric"
            extra = {"mask_path": f"masks/m{number:03}.png", "kind": kind, "n_boxes": 1}
            row = _row(tmp_path, f"m{number:03}.png", photo, label="manipulated", **extra)
            rows.append(row)
        return pd.DataFrame(rows, columns=IMAGES.names), tmp_path

    return make


@pytest.fixture
def make_album() -> Callable[..., Album]:
    """The album of such a data set: a box round each manipulated region, and pseudo-masks."""

    def make(images: pd.DataFrame, root: Path) -> Album:
        rows = []
        for name in images.loc[images["label"] == "manipulated", "image_id"]:
            box = {"x0": 6.0, "y0": 4.0, "x1": 16.0, "y1": 12.0, "image_id": name}
            rows.append({**dict.fromkeys(BOXES.names), **box})
            save_grey(root / "pseudo" / f"{name}.png", np.full((24, 32), 90, dtype=np.uint8))
        boxes = pd.DataFrame(rows, columns=BOXES.names)
        return Album(Manifest(images, boxes), root, root / "pseudo")

    return make


@pytest.fixture
def red_channel() -> Callable[..., list[np.ndarray]]:
    return lambda photos: [photo[..., 0].astype(np.float32) / 255 for photo in photos]
