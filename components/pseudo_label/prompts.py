"""Box prompts: margin, clipping to the photo, and their hash."""

from __future__ import annotations

import numpy as np

from components.core.errors import InputError
from components.core.files import sha256_json


def expand(boxes: np.ndarray, margin: float, width: int, height: int) -> np.ndarray:
    """Widen boxes by a share of their own sides, on each side, and clip them to the photo.

    Boxes are float64 (N, 4), x0, y0, x1, y1 in pixels, half-open, before and after. Raises
    InputError where there is none, or one is not finite, inverted, or wholly outside the photo.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    if len(boxes) == 0:
        raise InputError("no box to prompt the teacher with")
    x0, y0, x1, y1 = boxes.T
    usable = np.isfinite(boxes).all(axis=1) & (x0 < x1) & (y0 < y1)
    usable &= (x1 > 0) & (y1 > 0) & (x0 < width) & (y0 < height)
    if not usable.all():
        wrong = boxes[~usable][0].tolist()
        raise InputError(
            f"box {wrong} is not inside the {width}x{height} photo",
            hint="correct the annotation, `iml dataset check` lists all of them",
        )
    dx, dy = (x1 - x0) * margin, (y1 - y0) * margin
    wide = np.stack([x0 - dx, y0 - dy, x1 + dx, y1 + dy], axis=1)
    return np.clip(wide, 0, [width, height, width, height])


def pixels(box: np.ndarray, width: int, height: int) -> tuple[int, int, int, int]:
    """The whole pixels whose centres a box covers, never fewer than one: x0, y0, x1, y1."""
    x0, y0, x1, y1 = np.floor(np.asarray(box) + 0.5).astype(int).tolist()
    x0, y0 = min(max(x0, 0), width - 1), min(max(y0, 0), height - 1)
    return x0, y0, min(max(x1, x0 + 1), width), min(max(y1, y0 + 1), height)


def fill(box: np.ndarray, width: int, height: int) -> np.ndarray:
    """Bool (H, W): true inside the box."""
    x0, y0, x1, y1 = pixels(box, width, height)
    mask = np.zeros((height, width), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def prompt_sha256(boxes: np.ndarray) -> str:
    """SHA-256 of the boxes in the teacher's prompt, margin included."""
    return sha256_json(np.asarray(boxes, np.float64).tolist())
