"""Manipulations made on the fly: a part of a photo moved into another, or elsewhere in itself.

Small sets hold few manipulations; every training photo, authentic or not, can carry more, and their
masks are exact. What is moved is only ever a training photo's, and where a donor has a pseudo-mask
its shape is used, so nothing enters that the method does not have.
"""

from __future__ import annotations

import cv2
import numpy as np

from components.synthesis.paste import Layer, blend

INSIDE = 0.5  # how often the part stays in its own photo (copy-move)
SHAPED = 0.5  # how often the donor's pseudo-mask gives the shape, where there is one
AREA = (0.005, 0.5)  # share of the view that a shape may have
AXES = (0.05, 0.25)  # of a made shape, as shares of the view's side
SCALE, TURN = (0.7, 1.4), 20.0  # of the part; degrees either way
EDGE = (0.3, 1.5)  # deviation of the soft edge, pixels

View = tuple[np.ndarray, np.ndarray]


def spliced(host: View, donor: View, draw: np.random.Generator) -> View:
    """A view, uint8 (S, S, 3) and its mask uint8 (S, S), with one more manipulation: new arrays.

    The donor is another photo's view of the same size. The host's own mask stays where it is not
    covered.
    """
    photo, mask = host
    size = len(mask)
    source, shape = (photo, _made(size, draw)) if draw.random() < INSIDE else donor
    if source is not photo and not _usable(shape, draw):
        shape = _made(size, draw)
    moved = _move(shape, size, draw)
    part = cv2.warpAffine(source, moved, (size, size), borderMode=cv2.BORDER_REFLECT)
    alpha = cv2.warpAffine(shape, moved, (size, size)).astype(np.float32) / 255
    alpha = np.clip(cv2.GaussianBlur(alpha, (0, 0), sigmaX=draw.uniform(*EDGE)), 0, 1)
    mixed = blend(photo, Layer(part.astype(np.float32), alpha))
    return mixed, blend(mask[..., None], Layer(np.array(255, np.float32), alpha))[..., 0]


def _usable(shape: np.ndarray, draw: np.random.Generator) -> bool:
    """Whether a donor's pseudo-mask is to give the shape."""
    share = (shape > 127).mean()
    return bool(draw.random() < SHAPED and AREA[0] < share < AREA[1])


def _made(size: int, draw: np.random.Generator) -> np.ndarray:
    """A turned ellipse, rectangle or free polygon in the middle: uint8 (size, size), 0 or 255."""
    axes = draw.uniform(*AXES, 2) * size
    kind = draw.integers(3)
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    if kind == 1:
        angles = np.pi / 4 + np.arange(4) * np.pi / 2
    radii = draw.uniform(0.5, 1.2, 12)[np.arange(len(angles)) * 12 // len(angles)]
    radii = radii if kind == 2 else np.ones(len(angles))
    points = size / 2 + radii[:, None] * axes * np.stack([np.cos(angles), np.sin(angles)], 1)
    shape = np.zeros((size, size), np.uint8)
    cv2.fillPoly(shape, [np.rint(points).astype(np.int32)], 255)
    return shape


def _move(shape: np.ndarray, size: int, draw: np.random.Generator) -> np.ndarray:
    """Scale and turn about the shape's centre, which goes to a random place: float (2, 3)."""
    rows, columns = np.nonzero(shape > 127)
    centre = (float(columns.mean()), float(rows.mean())) if len(rows) else (size / 2, size / 2)
    turn, scale = draw.uniform(-TURN, TURN), draw.uniform(*SCALE)
    moved = np.asarray(cv2.getRotationMatrix2D(centre, turn, scale), np.float64)
    moved[:, 2] += draw.uniform(0.15, 0.85, 2) * size - centre
    return moved
