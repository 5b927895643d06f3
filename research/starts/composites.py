"""Endless manipulated photos to pre-train on: one paste a photo with its mask, or none at all.

A composite is a pure function of sources, seed and number: a training can stop anywhere and go on.
Unlike the teacher's pairs, which show a box, everything pasted here is in the mask.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch

from components.core.seeds import generator
from components.core.stream import ahead
from components.distill.batches import Batch
from components.distill.cache import Decoded
from components.student.infer import shrink, to_tensor
from components.synthesis.splices import View
from research.sam_lite.sources import Sources
from research.scenes import background, degrade, object_layer, paste, patch_layer
from research.shapes import FREE_FORM, GEOMETRIC

_AUTHENTIC = 0.3  # of all
_OBJECT = 0.5  # of the pastes; the rest are patches
_OWN = 0.5  # of the patches: taken from the same photo
_SMALLEST, _LARGEST = 60, 0.5  # of a mask: pixels, and share of the photo
_VISIBLE = 8.0  # mean grey levels by which a paste must differ from what it covers
_TRIES = 8


def composite(sources: Sources, seed: int, number: int) -> View:
    """Photo number `number`, uint8 (H, W, 3), and its mask uint8 (H, W): 0 or 255."""
    rng = generator(seed, "composite", number)
    scene = background(_any(sources.photos, rng), rng)
    mask = np.zeros(scene.shape[:2], np.uint8)
    if rng.random() >= _AUTHENTIC:
        for _ in range(_TRIES):
            made = _pasted(sources, scene, rng)
            if made is not None:
                scene, mask = made
                break
    return degrade(scene, rng), mask


def _pasted(sources: Sources, scene: np.ndarray, rng: np.random.Generator) -> View | None:
    """The scene with an object or a patch in it; None where nobody could see it."""
    after = scene.copy()
    if rng.random() < _OBJECT:
        layer = object_layer(_any(sources.cutouts, rng), scene.shape[:2], rng)
    else:
        source = scene if rng.random() < _OWN else _any(sources.photos, rng)
        shape = str(rng.choice(GEOMETRIC + FREE_FORM))
        layer = patch_layer(shape, source, scene.shape[:2], rng)
    mask = paste(after, layer, rng) > 0.5
    if mask.sum() < _SMALLEST or mask.mean() > _LARGEST:
        return None
    change = np.abs(after[mask].astype(np.int16) - scene[mask]).mean()
    return (after, mask.astype(np.uint8) * 255) if change >= _VISIBLE else None


def _any(pictures: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    return pictures[int(rng.integers(len(pictures)))]


def _view(sources: Sources, seed: int, number: int, size: int) -> View:
    photo, mask = composite(sources, seed, number)
    return shrink(photo, size), shrink(mask, size)


def batches(sources: Sources, seed: int, size: int, batch: int, steps: range) -> Iterator[Batch]:
    """A batch for each of `steps`, made ahead in a thread: photos squeezed to `size` a side."""
    cv2.setNumThreads(1)

    def make(step: int) -> Batch:
        """The batch of one step."""
        numbers = range(step * batch, (step + 1) * batch)
        views = [_view(sources, seed, number, size) for number in numbers]
        photos, masks = (np.stack(part) for part in zip(*views, strict=True))
        return Batch(to_tensor(photos), to_tensor(masks[..., None]), torch.ones(batch), batch)

    return ahead(steps, make, 1)


def held_out(sources: Sources, seed: int, size: int, count: int) -> Decoded:
    """Composites to judge a student by, as validation photos."""
    views = [_view(sources, seed, number, size) for number in range(count)]
    photos, masks = (np.stack(part) for part in zip(*views, strict=True))
    return Decoded(
        key=sources.digest,
        photos=photos,
        masks=masks,
        sizes=np.full((count, 2), size),
        weights=np.ones(count, np.float32),
        manipulated=np.asarray(masks.any((1, 2))),
        train=np.arange(0),
        val=np.arange(count),
    )
