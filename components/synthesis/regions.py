"""Regions: which part of a photo is copied or removed - a found object, or a free shape."""

from __future__ import annotations

import cv2
import numpy as np

_WORK = 128  # longer side at which objects are looked for, in pixels


def free_shape(height: int, width: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """A smooth random outline with about `share` of the photo's area inside it, bool (H, W)."""
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    radius = np.ones_like(angle)
    for wave in range(2, 6):
        radius += rng.uniform(0, 0.35 / wave) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    stretch, turn = np.exp(rng.uniform(-0.4, 0.4)), rng.uniform(0, np.pi)
    x, y = radius * np.cos(angle) * stretch, radius * np.sin(angle) / stretch
    outline = np.stack(
        [x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], axis=1
    )
    outline *= np.sqrt(share * height * width / abs(_area(outline)))
    outline -= outline.min(axis=0)
    extent = outline.max(axis=0)
    limit = np.array([width - 5, height - 5], np.float64)
    outline *= min(1.0, *(limit / extent))
    outline += 2 + rng.uniform(0, 1, 2) * np.maximum(0, limit - outline.max(axis=0))
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], 1)
    return mask.astype(bool)


def _area(outline: np.ndarray) -> float:
    """Signed area of a polygon (N, 2)."""
    x, y = outline.T
    return float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)) / 2)


def find_object(
    photo: np.ndarray, low: float, high: float, rng: np.random.Generator
) -> np.ndarray | None:
    """Look for something with an outline of its own in a random window (GrabCut).

    The mask is bool (H, W), one piece without holes, `low` to `high` of the photo's area; None
    where nothing is distinct. `rng` draws the window and seeds GrabCut.
    """
    height, width = photo.shape[:2]
    scale = min(1.0, _WORK / max(height, width))
    small = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    rows, columns = small.shape[:2]
    box_w, box_h = (int(rng.uniform(0.25, 0.7) * side) for side in (columns, rows))
    left = int(rng.integers(1, columns - box_w))
    top = int(rng.integers(1, rows - box_h))
    cv2.setRNGSeed(int(rng.integers(2**31)))  # GrabCut's k-means draws from OpenCV's own stream
    labels = np.zeros((rows, columns), np.uint8)
    memory = np.zeros((2, 1, 65))
    box = (left, top, box_w, box_h)
    cv2.grabCut(small, labels, box, memory[0], memory[1], 2, cv2.GC_INIT_WITH_RECT)
    found = _largest_piece((labels == cv2.GC_PR_FGD) | (labels == cv2.GC_FGD))
    # An object leaves some of its window free and does not lean on the window's sides.
    if not 0.25 < found.sum() / (box_w * box_h) < 0.8 or _leans(found, box) > 0.35:
        return None
    soft = cv2.resize(found.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    mask = cv2.GaussianBlur(soft, (0, 0), max(0.8, 0.6 / scale)) > 0.5
    return mask if low <= mask.mean() <= high else None


def _largest_piece(mask: np.ndarray) -> np.ndarray:
    """The largest 4-connected piece with its holes filled, edges smoothed."""
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    outlines, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    piece = np.zeros(mask.shape, np.uint8)
    if outlines:
        cv2.fillPoly(piece, [max(outlines, key=cv2.contourArea)], 1)
    return piece.astype(bool)


def _leans(mask: np.ndarray, box: tuple[int, int, int, int]) -> float:
    """The share of the window's rim that the mask covers."""
    left, top, width, height = box
    part = mask[top : top + height, left : left + width]
    rim = np.concatenate([part[0], part[-1], part[:, 0], part[:, -1]])
    return float(rim.mean())


def pick(
    photo: np.ndarray, low: float, high: float, rng: np.random.Generator
) -> tuple[np.ndarray, bool]:
    """An object where one is found in a few windows, else a free shape; and whether it is one.

    The mask is bool (H, W) with roughly `low` to `high` of the area.
    """
    for _ in range(6):
        mask = find_object(photo, low, high, rng)
        if mask is not None:
            return mask, True
    share = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    height, width = photo.shape[:2]
    return free_shape(height, width, share, rng), False


def surroundings(mask: np.ndarray, reach: int) -> np.ndarray:
    """The pixels within `reach` of a mask but not in it, bool (H, W)."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return cv2.dilate(mask.astype(np.uint8), kernel).astype(bool) & ~mask
