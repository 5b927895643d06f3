"""Small made photos, masks and COCO indices; nothing from outside the tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Coco = Callable[..., Path]


def photo_array(seed: int, width: int = 96, height: int = 64) -> np.ndarray:
    """A smooth random picture: its perceptual hash differs from every other seed's."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def write_photo(path: Path, seed: int, width: int = 96, height: int = 64) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo_array(seed, width, height)).save(path, quality=92)
    return path


def write_mask(
    path: Path, box: tuple[int, int, int, int], size: tuple[int, int] = (96, 64)
) -> Path:
    """A mask that is white in `x0, y0, x1, y1` (half-open)."""
    mask = np.zeros((size[1], size[0]), np.uint8)
    mask[box[1] : box[3], box[0] : box[2]] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)
    return path


def coco_index(**changes: Any) -> dict[str, Any]:
    """Two photos, the first with one box."""
    index: dict[str, Any] = {
        "images": [
            {"id": 1, "file_name": "a.jpg", "width": 96, "height": 64},
            {"id": 2, "file_name": "b.jpg", "width": 96, "height": 64},
        ],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 16]}],
        "categories": [{"id": 1, "name": "manipulated"}],
    }
    return {**index, **changes}
