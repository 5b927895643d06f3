"""Coarse boxes simulated from true masks: the model of a person's loose box.

One box per 8-connected component of the mask. A component of fewer than `SPECK` pixels, or narrower
or lower than `SLIVER`, is noise in the mask unless there is nothing better; a box inside another is
dropped, because a person would not draw it. Each side is then moved outwards by its own random
share of the box's width or height, uniform in 0..jitter, and clipped to the photo.
"""

from __future__ import annotations

import cv2
import numpy as np

from components.core.images import PhotoError
from components.core.seeds import generator

SPECK = 16
SLIVER = 4
MOST = 4096


def component_boxes(mask: np.ndarray) -> np.ndarray:
    """The tight boxes of the components of a mask, bool (H, W); largest component first.

    Returns float64 (N, 4), `x0, y0, x1, y1` in pixels, half-open; N is 0 for an empty mask.

    Raises:
        PhotoError: more than `MOST` components, which nobody would draw boxes round.
    """
    count, _, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return np.zeros((0, 4))
    found = statistics[1:]
    # Equal areas stay in scan order, so that the same mask always gives the same list.
    found = found[np.argsort(-found[:, cv2.CC_STAT_AREA], kind="stable")]
    sides = found[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].min(axis=1)
    sound = (found[:, cv2.CC_STAT_AREA] >= SPECK) & (sides >= SLIVER)
    found = found[sound] if sound.any() else found[:1]
    if len(found) > MOST:
        raise PhotoError(f"has {len(found):,} separate regions, more than {MOST:,}", "mask")
    start = found[:, [cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP]].astype(np.float64)
    size = found[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].astype(np.float64)
    return _drop_inner(np.hstack([start, start + size]))


def _drop_inner(boxes: np.ndarray) -> np.ndarray:
    """Without the boxes inside another one; of equal boxes the first stays."""
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    kept: list[int] = []
    for index in np.argsort(-area, kind="stable"):
        box, others = boxes[index], boxes[kept]
        inside = (others[:, :2] <= box[:2]).all(axis=1) & (others[:, 2:] >= box[2:]).all(axis=1)
        if not inside.any():
            kept.append(int(index))
    return boxes[sorted(kept)]


def loosen(
    boxes: np.ndarray, width: int, height: int, jitter: float, seed: int, image_id: str
) -> np.ndarray:
    """Move each side outwards by a random share (0..jitter) of the box's side, inside the photo.

    `boxes` and the result are float64 (N, 4), `x0, y0, x1, y1` in pixels, half-open; `width` and
    `height` are the photo's. Each photo has its own random stream, so adding a photo changes no
    other photo's boxes.
    """
    shares = generator(seed, "boxes", image_id).uniform(0, jitter, size=(len(boxes), 4))
    size = boxes[:, 2:] - boxes[:, :2]
    loose = boxes + shares * np.hstack([-size, size])
    return np.clip(loose, 0, np.array([width, height, width, height], np.float64))
