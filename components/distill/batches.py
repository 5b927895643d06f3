"""An epoch's batches, made ahead in a thread: order, crops and treatment from the seed alone.

Augmentation (crops, flips, splices, JPEG, resizing, blur, noise) knows nothing of whether a photo
is manipulated: both kinds are treated alike, so that no trace of the treatment tells them apart.
Each photo has its own random stream per epoch, so the order in which they are made, or a resumed
run, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from components.core.params import Distill
from components.core.seeds import generator
from components.core.stream import ahead
from components.distill.cache import Decoded
from components.distill.parallel import ALONE, DistributedContext
from components.student.infer import shrink, to_tensor
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


class Batch(NamedTuple):
    """Photos to learn from, on the CPU."""

    photos: Tensor  # float32 (B, 3, S, S) in [0, 1]
    targets: Tensor  # float32 (B, 1, S, S), pseudo-mask probability
    weights: Tensor  # float32 (B,)
    whole: int  # photos of the batch over all processes


def count(photos: int, batch: int) -> int:
    """Batches in an epoch."""
    return -(-photos // batch)


def epoch_batches(
    data: Decoded, params: Distill, epoch: int, context: DistributedContext = ALONE
) -> Iterator[Batch]:
    """An epoch's batches, or one process's share of each.

    Every photo comes once, where there is no pool; sizes differ by at most one, so that no batch is
    too small for batch normalisation. The next ones are made while one is used.
    """
    order = _order(data, params, epoch)
    parts = np.array_split(order, count(len(order), params.batch))

    def make(rows: np.ndarray) -> Batch:
        """One batch of these rows."""
        own = rows[context.rank :: context.size]
        views = [_view(data, params, epoch, row) for row in own.tolist()]
        photos, masks = (np.stack(part) for part in zip(*views, strict=True))
        weights = torch.from_numpy(data.weights[own])
        return Batch(to_tensor(photos), to_tensor(masks[..., None]), weights, len(rows))

    return ahead(parts, make, 1)


def _order(data: Decoded, params: Distill, epoch: int) -> np.ndarray:
    """The rows of an epoch: as many as there are annotated photos.

    Of the pool come `pool_share` of them, each photo once before any comes twice; as many annotated
    photos wait for another epoch.
    """
    draw = generator(params.seed, "order", epoch)
    order = draw.permutation(data.train)
    if not len(data.pool):
        return order
    wanted = round(params.pool_share * len(order))
    rounds = -(-wanted // len(data.pool))
    drawn = np.concatenate([data.pool[:0], *(draw.permutation(data.pool) for _ in range(rounds))])
    return draw.permutation(np.concatenate([order[wanted:], drawn[:wanted]]))


def _view(data: Decoded, params: Distill, epoch: int, row: int) -> View:
    """What the student sees of a photo in an epoch, and its mask."""
    tiles, key = params.student.view == "tiles", (params.seed, epoch, row)
    if not params.augment:
        return plain(*data.photo(row), params.student.size, tiles, *key)
    draw = generator(params.seed, "donor", epoch, row)
    # Drawn for both kinds of photo alike, so that a splice says nothing about the rest.
    donor = _donor(data, params, draw) if draw.random() < params.splices else None
    return augment(*data.photo(row), params.student.size, tiles, *key, donor)


def _donor(data: Decoded, params: Distill, draw: np.random.Generator) -> View:
    """A photo that a splice may take from: with `pool_share` one of the pool."""
    pooled = len(data.pool) > 0 and draw.random() < params.pool_share
    return data.photo(int(draw.choice(data.pool if pooled else data.train)))


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
    """One augmented view of a photo and its mask; crops and flips move both.

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
        uint8 (S, S, 3) and (S, S).
    """
    draw = generator(seed, "augment", epoch, row)
    photo, mask = _cropped(photo, mask, size, tiles, draw)
    if donor is not None:
        made = generator(seed, "splice", epoch, row)
        photo, mask = spliced((photo, mask), _cropped(*donor, size, tiles, made), made)
    return _treated(photo, draw), mask


def _cropped(
    photo: np.ndarray, mask: np.ndarray, size: int, tiles: bool, draw: np.random.Generator
) -> View:
    """A crop, perhaps mirrored, at the student's size; of tiles at the photo's own resolution."""
    if tiles:
        place = _square(mask.shape, round(size * draw.uniform(*TILE)), draw)
    else:
        place = _crop(mask.shape, draw)
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


def _square(shape: tuple[int, ...], side: int, draw: np.random.Generator) -> Place:
    return _window(shape, [min(side, length) for length in shape], draw)


def _window(shape: tuple[int, ...], sides: list[int], draw: np.random.Generator) -> Place:
    """A window of these sides, at a random place inside a photo."""
    top, left = (draw.integers(0, s - kept + 1) for s, kept in zip(shape, sides, strict=True))
    return np.s_[top : top + sides[0], left : left + sides[1]]
