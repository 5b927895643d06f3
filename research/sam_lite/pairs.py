"""Box-to-mask pairs: a scene with one manipulated region, the box a person would draw, the mask.

A pair is a pure function of sources, seed and index: training can stop anywhere and go on, and
the number of workers changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from components.core.seeds import generator
from components.synthesis.paste import Layer, bounds
from research.sam_lite.sources import Sources
from research.scenes import background, degrade, object_layer, paste, patch_layer
from research.shapes import FREE_FORM, GEOMETRIC

KINDS = ("object", "geometric", "free-form", "silhouette", "region")
_TRIES = 6
_HIDDEN = 0.4  # kept share of pastes nobody can see: they teach which mask a bare box deserves


@dataclass(frozen=True)
class Pair:
    """One example.

    Attributes:
        photo: uint8 (H, W, 3), RGB.
        mask: bool (H, W).
        box: float64 (4,), x0, y0, x1, y1 in pixels, half-open, inside the photo.
        kind: one of KINDS.
    """

    photo: np.ndarray
    mask: np.ndarray
    box: np.ndarray
    kind: str


def make(sources: Sources, shares: dict[str, float], seed: int, index: int) -> Pair:
    """Pair number `index`.

    Args:
        sources: decoded sources.
        shares: how often each kind of KINDS is made; they need not sum to 1.
        seed: of the whole sequence.
        index: any number from 0.
    """
    rng = generator(seed, "pair", index)
    weights = np.array([shares.get(kind, 0.0) for kind in KINDS])
    kind = str(rng.choice(KINDS, p=weights / weights.sum()))
    for _ in range(_TRIES):
        found = _region(sources, rng) if kind == "region" else _composite(sources, kind, rng)
        if found is not None:
            break
    else:
        return make(sources, shares, seed, index + (1 << 40))
    photo, mask = found
    return Pair(degrade(photo, rng), mask, loosen(mask, rng), kind)


def loosen(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The coarse box: each side moved out by up to 30 % of the box, now and then a little in."""
    height, width = mask.shape
    tight = np.array(bounds(mask), np.float64)
    sides = np.tile([tight[2] - tight[0], tight[3] - tight[1]], 2)
    most = rng.uniform(0.02, 0.3)
    least = -0.05 if rng.random() < 0.15 else 0.0
    moved = tight + [-1, -1, 1, 1] * sides * rng.uniform(least, most, 4)
    return np.clip(moved, 0, [width, height, width, height])


def _composite(
    sources: Sources, kind: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray] | None:
    """A photo with something pasted, and what was pasted; None where it cannot be seen."""
    photos = sources.photos
    if sources.regions and rng.random() < 0.5:
        photos = [photo for photo, _ in sources.regions]
    scene = background(photos[rng.integers(len(photos))], rng)
    if rng.random() < 0.3:
        for _ in range(int(rng.integers(1, 3))):
            paste(scene, _object(sources, scene, rng), rng)
    layer = _layer(sources, photos, kind, scene, rng)
    before = scene.copy()
    alpha = paste(scene, layer, rng)
    mask = alpha > 0.5
    if mask.sum() < 60 or mask.mean() > 0.7:
        return None
    if _hidden(before, scene, mask) and rng.random() >= _HIDDEN:
        return None
    if rng.random() < 0.12:  # something in front of it, or merely beside
        front = paste(scene, _object(sources, scene, rng), rng)
        mask &= front <= 0.5
        if mask.sum() < max(60, 0.6 * (alpha > 0.5).sum()):
            return None
    return scene, mask


def _layer(
    sources: Sources,
    photos: list[np.ndarray],
    kind: str,
    scene: np.ndarray,
    rng: np.random.Generator,
) -> Layer:
    if kind == "object":
        return _object(sources, scene, rng)
    other = scene.copy() if rng.random() < 0.5 else photos[rng.integers(len(photos))]
    if kind == "silhouette":
        shape: str | np.ndarray = sources.cutouts[rng.integers(len(sources.cutouts))][..., 3]
    else:
        shape = str(rng.choice(GEOMETRIC if kind == "geometric" else FREE_FORM))
    return patch_layer(shape, other, scene.shape[:2], rng)


def _object(sources: Sources, scene: np.ndarray, rng: np.random.Generator) -> Layer:
    cutout = sources.cutouts[rng.integers(len(sources.cutouts))]
    return object_layer(cutout, scene.shape[:2], rng)


def _hidden(before: np.ndarray, after: np.ndarray, mask: np.ndarray) -> bool:
    """Whether nobody could see where the paste ends: sky on the same sky."""
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=3) > 0
    rim = mask & ~inner
    change = np.abs(after.astype(np.int16) - before)[rim].max(axis=1)
    return bool((change > 12).mean() < 0.5)


def _region(sources: Sources, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray] | None:
    """A connected region that a person drew in a photo, flipped and rescaled at random."""
    photo, maps = sources.regions[rng.integers(len(sources.regions))]
    labels = maps[rng.integers(len(maps))]
    y, x = int(rng.integers(labels.shape[0])), int(rng.integers(labels.shape[1]))
    if rng.random() < 0.7:  # any region alike; else by area
        y, x = _somewhere_in(labels, int(rng.choice(np.unique(labels))), rng)
    same = (labels == labels[y, x]).astype(np.uint8)
    _, pieces = cv2.connectedComponents(same, connectivity=4)
    mask = pieces == pieces[y, x]
    if mask.mean() > 0.5 or mask.sum() < 150:
        return None
    if rng.random() < 0.5:
        photo, mask = photo[:, ::-1], mask[:, ::-1]
    scale = rng.uniform(0.6, 1.2)
    size = (round(mask.shape[1] * scale), round(mask.shape[0] * scale))
    photo = cv2.resize(np.ascontiguousarray(photo), size, interpolation=cv2.INTER_AREA)
    soft = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return (photo, soft > 0.5) if (soft > 0.5).sum() > 60 else None


def _somewhere_in(labels: np.ndarray, label: int, rng: np.random.Generator) -> tuple[int, int]:
    rows, columns = np.nonzero(labels == label)
    pick = int(rng.integers(len(rows)))
    return int(rows[pick]), int(columns[pick])
