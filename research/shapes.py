"""Random outlines of pasted patches: geometric ones, and free forms no object ever had."""

from __future__ import annotations

import cv2
import numpy as np

from components.synthesis.paste import bounds

GEOMETRIC = ("rectangle", "ellipse", "triangle", "trapezoid", "polygon")
FREE_FORM = ("blob", "scribble", "noise")
_SHIFT = 4  # OpenCV's fixed-point bits for corners between pixels


def draw(name: str, width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """One shape of about width x height pixels.

    Returns:
        float32 (h, w) coverage in 0..1 with soft (anti-aliased) edges, cropped to the shape.
    """
    if name == "noise":
        return crop_to(_noise(width, height, rng))
    points = _OUTLINES[name](rng)
    angle = rng.uniform(0, 2 * np.pi) if rng.random() < 0.5 else 0.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = points @ turn.T
    points = (points - points.min(0)) / np.maximum(np.ptp(points, axis=0), 1e-6)
    canvas = np.zeros((height + 2, width + 2), np.uint8)
    corners = np.round((points * [width - 1, height - 1] + 1) * 2**_SHIFT).astype(np.int32)
    cv2.fillPoly(canvas, [corners], 255, cv2.LINE_AA, _SHIFT)
    return crop_to(canvas.astype(np.float32) / 255)


def crop_to(mask: np.ndarray) -> np.ndarray:
    """The part of a soft mask that reaches one half anywhere, with a rim of one pixel."""
    if not (mask > 0.5).any():
        return np.ones((1, 1), np.float32)
    x0, y0, x1, y1 = bounds(mask > 0.5)
    return np.ascontiguousarray(mask[max(y0 - 1, 0) : y1 + 1, max(x0 - 1, 0) : x1 + 1])


def _rectangle(rng: np.random.Generator) -> np.ndarray:
    return np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)


def _ellipse(rng: np.random.Generator) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _triangle(rng: np.random.Generator) -> np.ndarray:
    apex, fall = rng.uniform(-0.3, 1.3), rng.uniform(0.0, 0.4)
    return np.array([[0, 1], [1, 1 - fall], [apex, 0]])


def _trapezoid(rng: np.random.Generator) -> np.ndarray:
    a, b = rng.uniform(0, 0.45, 2)
    slant = rng.uniform(-0.3, 0.3)
    return np.array([[0, 1], [1, 1], [1 - a + slant, 0], [b + slant, 0]])


def _polygon(rng: np.random.Generator) -> np.ndarray:
    count = int(rng.integers(5, 9))
    uneven = rng.choice([0.0, 0.5])
    angles = (np.arange(count) + uneven * rng.uniform(-0.5, 0.5, count)) * 2 * np.pi / count
    radius = 1 - uneven * rng.uniform(0, 0.8, count)
    return radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _blob(rng: np.random.Generator) -> np.ndarray:
    """A smooth closed curve: a circle whose radius wavers in a few low frequencies."""
    angles = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    radius = np.ones_like(angles)
    rough = rng.uniform(0.1, 0.5)
    for frequency in range(2, 8):
        size = rough * rng.normal() / frequency
        radius += size * np.cos(frequency * angles + rng.uniform(0, 2 * np.pi))
    return np.maximum(radius, 0.15)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _scribble(rng: np.random.Generator) -> np.ndarray:
    """A lasso drawn by hand: many corners, uneven radius, straight pieces between."""
    count = int(rng.integers(8, 22))
    angles = np.sort(rng.uniform(0, 2 * np.pi, count))
    radius = np.convolve(rng.uniform(0.35, 1.0, count + 2), [0.25, 0.5, 0.25], "valid")
    return radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _noise(width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """The largest piece of a thresholded cloud: ragged, with bays and holes."""
    coarse = int(rng.integers(4, 9))
    cloud = cv2.resize(
        rng.random((coarse, coarse)).astype(np.float32), (64, 64), interpolation=cv2.INTER_CUBIC
    )
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    cloud = cloud + (0.5 - 0.7 * (x**2 + y**2))
    pieces, labels, stats, _ = cv2.connectedComponentsWithStats((cloud > 0.62).astype(np.uint8))
    if pieces < 2:
        return np.ones((height, width), np.float32)
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    piece = crop_to((labels == largest).astype(np.float32))
    piece = cv2.resize(piece, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip((cv2.GaussianBlur(piece, (0, 0), max(width, height) / 60) - 0.5) * 8 + 0.5, 0, 1)


_OUTLINES = {
    "rectangle": _rectangle,
    "ellipse": _ellipse,
    "triangle": _triangle,
    "trapezoid": _trapezoid,
    "polygon": _polygon,
    "blob": _blob,
    "scribble": _scribble,
}
