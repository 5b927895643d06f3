"""Augmentation: crops, flips, splices, JPEG, resizing, blur and noise, per (epoch, photo).

Nothing here knows whether a photo is manipulated: both kinds are treated alike, so that no trace
of the treatment tells them apart. Each photo has its own random stream, so the order in which they
are made, or a resumed run, changes nothing.
"""

from __future__ import annotations

import cv2
import numpy as np

from components.core.seeds import generator
from components.student.infer import shrink
from components.synthesis.degrade import blur, noisy, recompress, smaller
from components.synthesis.splices import View, spliced

FLIP, JPEG, RESIZE, BLUR, NOISE = 0.5, 0.5, 0.2, 0.2, 0.2  # how often each is applied
CROP, SIDE = 0.8, (0.5, 1.0)  # how often, and the share of the photo's sides kept
TILE = (0.75, 1.33)  # side of a square of the photo's own pixels, in views
QUALITY = (60, 100)  # JPEG, both inclusive
SCALE = (0.5, 0.9)  # resized to this share of the view, and back
SIGMA = (0.4, 1.2)  # blur, pixels of the student's view
DEVIATION = (1.0, 6.0)  # noise, grey levels
Place = tuple[slice, slice]


def augment(
    photo: np.ndarray,
    mask: np.ndarray,
    size: int,
    tiles: bool,
    seed: int,
    epoch: int,
    row: int,
    donor: View | None = None,
) -> View:
    """One augmented view of a photo and its mask.

    Args:
        photo: uint8 (H, W, 3), RGB.
        mask: uint8 (H, W).
        size: side S of the view.
        tiles: whether the student sees tiles at inference, or the whole photo.
        seed: of the training.
        epoch: from 1.
        row: of the photo in the data.
        donor: another photo and its mask, from which a part may be moved in; None: no splice.

    Returns:
        uint8 (S, S, 3) and (S, S); crops and flips move the mask with the photo.
    """
    draw = generator(seed, "augment", epoch, row)
    photo, mask = _view(photo, mask, size, tiles, draw)
    if donor is not None:
        made = generator(seed, "splice", epoch, row)
        photo, mask = spliced((photo, mask), _view(*donor, size, tiles, made), made)
    return _treated(photo, draw), mask


def _view(
    photo: np.ndarray, mask: np.ndarray, size: int, tiles: bool, draw: np.random.Generator
) -> View:
    """A crop, perhaps mirrored, at the student's size."""
    place = _tile(mask.shape, size, draw) if tiles else _crop(mask.shape, draw)
    photo, mask = shrink(photo[place], size), shrink(mask[place], size)
    if draw.random() < FLIP:
        photo, mask = photo[:, ::-1], mask[:, ::-1]
    if draw.random() < FLIP:
        photo, mask = photo[::-1], mask[::-1]
    return np.ascontiguousarray(photo), np.ascontiguousarray(mask)


def _treated(photo: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """What happens to photos that are passed on."""
    if draw.random() < BLUR:
        photo = blur(photo, draw.uniform(*SIGMA))
    if draw.random() < RESIZE:
        small = smaller(photo, draw.uniform(*SCALE))
        photo = cv2.resize(small, photo.shape[:2], interpolation=cv2.INTER_LINEAR)
    if draw.random() < NOISE:
        grains = draw.standard_normal(photo.shape, dtype=np.float32)
        photo = noisy(photo, grains * draw.uniform(*DEVIATION))
    if draw.random() < JPEG:
        photo = recompress(photo, int(draw.integers(QUALITY[0], QUALITY[1] + 1)))
    return photo


def plain(
    photo: np.ndarray, mask: np.ndarray, size: int, tiles: bool, seed: int, epoch: int, row: int
) -> View:
    """As `augment`, but the photo as it is: whole, or a tile at a random place."""
    if tiles and max(mask.shape) > size:
        draw = generator(seed, "augment", epoch, row)
        place = _square(mask.shape, size, draw)
        photo, mask = photo[place], mask[place]
    return shrink(photo, size), shrink(mask, size)


def _crop(shape: tuple[int, ...], draw: np.random.Generator) -> Place:
    """A random part of a photo, with its aspect ratio: else small sets are learnt by heart."""
    if draw.random() >= CROP:
        return np.s_[:, :]
    share = draw.uniform(*SIDE)
    return _window(shape, [max(1, round(side * share)) for side in shape], draw)


def _tile(shape: tuple[int, ...], size: int, draw: np.random.Generator) -> Place:
    """A random square of about the view's size, at the photo's own resolution."""
    return _square(shape, round(size * draw.uniform(*TILE)), draw)


def _square(shape: tuple[int, ...], side: int, draw: np.random.Generator) -> Place:
    return _window(shape, [min(side, length) for length in shape], draw)


def _window(shape: tuple[int, ...], sides: list[int], draw: np.random.Generator) -> Place:
    """A window of these sides, at a random place inside a photo."""
    top, left = (draw.integers(0, s - kept + 1) for s, kept in zip(shape, sides, strict=True))
    return np.s_[top : top + sides[0], left : left + sides[1]]
