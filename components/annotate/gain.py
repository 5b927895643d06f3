"""How much a student is expected to learn from a photo: it is unsure, and has seen none like it.

A photo's worth is the student's uncertainty, the mean binary entropy of its probability map. Photos
are then taken one by one, each time the one of the greatest worth times distance to the nearest
photo taken before (k-centre, greedy), so that ten variants of one picture are not drawn in a row.
Distances are those of small pictures of photo and map: an exported student gives nothing else, and
so this works with versions of any age.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

_MAP, _PICTURE = 64, 8  # sides of the maps that are measured, and of the pictures compared
_UNLIKE = 0.1  # distance from which a photo is called so
_SPREAD = 2000  # photos that are spread; the work grows with their number times that of all


class Seen(NamedTuple):
    """What the order needs of a photo."""

    name: str
    unsure: float  # mean entropy of the student's answer, 0..1
    look: np.ndarray  # float32 (K,); distances are root mean squares of differences


class Gain(NamedTuple):
    """A photo's place in the order, the highest value first."""

    name: str
    value: float  # uncertainty times distance
    unsure: float
    distance: float  # to the nearest photo before it, 0..1

    @property
    def reason(self) -> str:
        """For people."""
        near = "unlike" if self.distance > _UNLIKE else "somewhat like"
        return f"unsure about {self.unsure:.0%} of it, {near} the photos before it"


def seen(name: str, photo: np.ndarray, probability: np.ndarray) -> Seen:
    """Measure a photo uint8 (H, W, 3) and the student's answer float32 (H, W)."""
    small = _shrunk(probability, _MAP)
    parts = (_shrunk(photo, _PICTURE).astype(np.float32) / 255, _shrunk(small, _PICTURE))
    # Photo and map count alike, however many numbers each has.
    look = np.concatenate([part.ravel() / np.sqrt(2 * part.size) for part in parts])
    return Seen(name, entropy(small), look)


def _shrunk(picture: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)


def entropy(probability: np.ndarray) -> float:
    """Mean binary entropy in bits: 0 where every pixel is certain, 1 where none says anything."""
    p = np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)).mean())


def by_gain(photos: Sequence[Seen], spread: int = _SPREAD) -> list[Gain]:
    """The photos by expected gain; of equal ones by name.

    After `spread` photos the others follow by worth and distance to those, each on its own.
    """
    photos = sorted(photos, key=lambda photo: photo.name)
    if not photos:
        return []
    looks = np.stack([photo.look for photo in photos])
    worth = np.array([photo.unsure for photo in photos])
    distance = np.ones(len(photos))  # to the nearest one taken; the first has none
    left = np.ones(len(photos), bool)
    order: list[int] = []
    for _ in range(min(spread, len(photos))):
        chosen = int(np.argmax(np.where(left, worth * distance, -1)))
        order.append(chosen)
        left[chosen] = False
        apart = np.sqrt(np.square(looks - looks[chosen]).sum(axis=1))
        distance = np.where(left, np.minimum(distance, apart), distance)
    values = worth * distance
    order += sorted(np.flatnonzero(left).tolist(), key=lambda row: -values[row])
    return [
        Gain(photos[row].name, float(values[row]), float(worth[row]), float(distance[row]))
        for row in order
    ]
