"""Overlapping squares over a photo, and their answers blended into one map.

Squares form a regular grid whose first and last touch the photo's borders; a side shorter than
a square is mirrored up to it. Weights fall off linearly towards a square's rim, so no seam shows.
Held at a time: the photo's map and one batch of squares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np


def answers(
    photos: Sequence[np.ndarray],
    size: int,
    overlap: float | None,
    predict: Callable[[np.ndarray], np.ndarray],
    shrink: Callable[[np.ndarray, int], np.ndarray],
    enlarge: Callable[[np.ndarray, int, int], np.ndarray],
    batch: int,
) -> list[np.ndarray]:
    """A network's answer for photos of any size; see `components.student.infer` for the two views.

    Args:
        photos: uint8 (H, W, 3), of differing sizes.
        size: side of the square that the network sees, pixels.
        overlap: of neighbouring tiles, share of their side; None for the whole photo in one square.
        predict: squares uint8 (B, size, size, 3) to float32 (B, size, size) in [0, 1].
        shrink: a photo and `size` to uint8 (size, size, 3).
        enlarge: float32 (size, size), height and width to float32 (height, width).
        batch: squares to a call.

    Returns:
        One float32 (H, W) in [0, 1] per photo. Only these and one batch of squares are held.
    """
    if overlap is not None:
        return [_tiled(photo, size, overlap, predict, shrink, enlarge, batch) for photo in photos]
    maps = []
    for start in range(0, len(photos), batch):
        part = photos[start : start + batch]
        squares = predict(np.stack([shrink(photo, size) for photo in part]))
        for photo, square in zip(part, squares, strict=True):
            maps.append(enlarge(square, *photo.shape[:2]))
    return maps


def _tiled(
    photo: np.ndarray,
    size: int,
    overlap: float,
    predict: Callable[[np.ndarray], np.ndarray],
    shrink: Callable[[np.ndarray, int], np.ndarray],
    enlarge: Callable[[np.ndarray, int, int], np.ndarray],
    batch: int,
) -> np.ndarray:
    """One photo by tiles; one that fits into a square is resized to it."""
    if max(photo.shape[:2]) <= size:
        return enlarge(predict(shrink(photo, size)[None])[0], *photo.shape[:2])
    return blended(photo, size, overlap, predict, batch)


def places(length: int, size: int, overlap: float) -> list[int]:
    """Where squares start along a side of `length` >= `size` pixels, evenly spaced.

    Neighbours share at least `overlap` (0 <= overlap < 1) of their side.
    """
    stride = max(1, int(size * (1 - overlap)))
    count = -(-(length - size) // stride) + 1
    return [int(start) for start in np.linspace(0, length - size, count).round()]


def blended(
    photo: np.ndarray,
    size: int,
    overlap: float,
    predict: Callable[[np.ndarray], np.ndarray],
    batch: int,
) -> np.ndarray:
    """The weighted mean of overlapping squares' answers.

    Args:
        photo: uint8 (H, W, 3).
        size: side of a square, pixels.
        overlap: share of the side that neighbours have in common, at least.
        predict: squares uint8 (B, size, size, 3) to float32 (B, size, size) in [0, 1].
        batch: squares to a call.

    Returns:
        float32 (H, W) in [0, 1].
    """
    height, width = photo.shape[:2]
    missing = [(0, max(0, size - height)), (0, max(0, size - width)), (0, 0)]
    if any(after for _, after in missing):
        photo = np.pad(photo, missing, mode="symmetric")
    rows, columns = (places(length, size, overlap) for length in photo.shape[:2])
    grid = [(top, left) for top in rows for left in columns]
    weight = np.minimum(np.arange(1, size + 1), np.arange(size, 0, -1)).astype(np.float32)
    weight /= weight.max()
    total = np.zeros(photo.shape[:2], np.float32)
    for start in range(0, len(grid), batch):
        part = grid[start : start + batch]
        squares = np.stack([photo[top : top + size, left : left + size] for top, left in part])
        for (top, left), answer in zip(part, predict(squares), strict=True):
            total[top : top + size, left : left + size] += answer * np.outer(weight, weight)
    # The weights' sum is a product too, so no second map is needed.
    total /= _cover(photo.shape[0], rows, weight)[:, None]
    total /= _cover(photo.shape[1], columns, weight)
    # In place: a second map of a large photo would double what is held.
    whole = np.ascontiguousarray(total[:height, :width])
    return np.clip(whole, 0, 1, out=whole)


def _cover(length: int, starts: list[int], weight: np.ndarray) -> np.ndarray:
    """Sum of the weights along one side: float32 (length,)."""
    cover = np.zeros(length, np.float32)
    for start in starts:
        cover[start : start + len(weight)] += weight
    return cover
