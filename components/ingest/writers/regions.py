"""Regions in the forms of annotation tools: pixels, run lengths, polygons along pixel edges."""

from __future__ import annotations

import cv2
import numpy as np
from pycocotools import mask as codec

from components.ingest.formats.record import Region

_TOLERANCE = 0.75  # pixels: steps along a slanting edge become a line


def decode(region: Region, size: tuple[int, int]) -> np.ndarray:
    """The pixels of a region on a photo of this (width, height): bool (H, W)."""
    if isinstance(region, dict):
        return np.asarray(codec.decode(region), bool)
    width, height = size
    parts = [part for part in region if len(part) >= 6]
    if not parts:
        return np.zeros((height, width), bool)
    return np.asarray(codec.decode(codec.merge(codec.frPyObjects(parts, height, width))), bool)


def bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of a mask that is not empty, half-open."""
    xs, ys = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1


def runs(mask: np.ndarray) -> list[int]:
    """Lengths of runs of equal pixels, row by row, the first of them outside the region."""
    flat = mask.ravel()
    starts = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff(np.concatenate([[0], starts, [flat.size]])).tolist()
    return [0, *lengths] if flat[0] else lengths


def rings(region: Region, size: tuple[int, int]) -> list[list[float]]:
    """A region's edges as `[x, y, x, y, ...]`: its own polygons, or its pixels' to within a pixel.

    Of the latter some are edges of holes: fill them by the even-odd rule.
    """
    if isinstance(region, list):
        return region
    # In a mask of twice the size an even index is a pixel's near edge and an odd one its far edge.
    double = decode(region, size).astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours = cv2.findContours(double, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[0]
    return [_simple((contour[:, 0] + 1) // 2).ravel().tolist() for contour in contours]


def _simple(corners: np.ndarray) -> np.ndarray:
    """Fewer corners, moved by less than a pixel; float (N, 2)."""
    for tolerance in (_TOLERANCE, 0.0):
        few = cv2.approxPolyDP(corners.astype(np.float32)[:, None], tolerance, True)[:, 0]
        if len(few) >= 3:
            break
    return few.astype(float)


def joined(rings: list[list[float]]) -> list[float]:
    """Several rings as one line that goes to each and back, for formats that hold only one.

    Filled by the even-odd rule it covers what the rings do: where it goes it also comes back.
    """
    first = rings[0]
    back = [value for ring in rings[1:] for value in (*first[:2], *ring, *ring[:2])]
    return [*first, *back] if back else first
