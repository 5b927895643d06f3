"""Zoomed square crops round boxes, and masks from crops back at a photo's own resolution."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

CONTEXT = 1.4  # side of the crop as a multiple of the box's longer side; best on held-out pairs
_LEAST = 24  # pixels of the photo that a crop spans at least
_GREY = 127  # where the photo ends; near zero once normalised


@dataclass(frozen=True)
class Crop:
    """One crop of a photo.

    Attributes:
        pixels: uint8 (S, S, 3); the photo fills the upper left `inner`, the rest is grey.
        box: float32 (4,), the prompt in the crop's pixels.
        window: x0, y0, x1, y1, the part of the photo that is seen.
        inner: height and width that the window takes in the crop.
    """

    pixels: np.ndarray
    box: np.ndarray
    window: tuple[int, int, int, int]
    inner: tuple[int, int]


def cut(photo: np.ndarray, box: np.ndarray, size: int, context: float = CONTEXT) -> Crop:
    """A square of the photo round a box, resized to size x size.

    The square is moved to lie inside the photo where it can; where the photo is smaller than the
    square, the rest stays grey.

    Args:
        photo: uint8 (H, W, 3).
        box: float64 (4,), x0, y0, x1, y1 in pixels, half-open, inside the photo.
        size: side of the crop.
        context: side of the square as a multiple of the box's longer side.
    """
    height, width = photo.shape[:2]
    x0, y0, x1, y1 = (float(value) for value in box)
    side = max(_LEAST, round(context * max(x1 - x0, y1 - y0)))
    left, right = _span((x0 + x1) / 2, side, width)
    top, bottom = _span((y0 + y1) / 2, side, height)
    scale = size / side
    inner = (max(1, round((bottom - top) * scale)), max(1, round((right - left) * scale)))
    pixels = np.full((size, size, 3), _GREY, np.uint8)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    part = np.ascontiguousarray(photo[top:bottom, left:right])
    pixels[: inner[0], : inner[1]] = cv2.resize(part, inner[::-1], interpolation=how)
    across, down = inner[1] / (right - left), inner[0] / (bottom - top)
    moved = [(x0 - left) * across, (y0 - top) * down, (x1 - left) * across, (y1 - top) * down]
    return Crop(pixels, np.array(moved, np.float32), (left, top, right, bottom), inner)


def _span(centre: float, side: int, length: int) -> tuple[int, int]:
    """Start and end of `side` pixels about a centre, moved into 0..length."""
    start = max(0, min(round(centre - side / 2), length - side))
    return start, min(length, start + side)


def spread(values: np.ndarray, crop: Crop) -> np.ndarray:
    """Bring a map over a crop to the resolution of the photo's window.

    Args:
        values: float32 (h, w) over the whole crop, at any resolution.
        crop: where it comes from.

    Returns:
        float32, the shape of the window.
    """
    size = crop.pixels.shape[0]
    if values.shape != (size, size):
        values = cv2.resize(values, (size, size), interpolation=cv2.INTER_LINEAR)
    x0, y0, x1, y1 = crop.window
    seen = np.ascontiguousarray(values[: crop.inner[0], : crop.inner[1]])
    return cv2.resize(seen, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
