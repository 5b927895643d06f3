"""An epoch's batches, made ahead in a thread: order, crops and treatment from the seed alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from components.core.params import Distill
from components.core.seeds import generator
from components.core.stream import ahead
from components.distill.augment import augment, plain
from components.distill.cache import Decoded
from components.distill.parallel import ALONE, DistributedContext
from components.student.infer import to_tensor
from components.synthesis.splices import View


class Batch(NamedTuple):
    """Photos to learn from, on the CPU.

    Attributes:
        photos: float32 (B, 3, S, S) in [0, 1].
        targets: float32 (B, 1, S, S), pseudo-mask probability.
        weights: float32 (B,).
        whole: photos of the batch over all processes.
    """

    photos: Tensor
    targets: Tensor
    weights: Tensor
    whole: int


def count(photos: int, batch: int) -> int:
    """Batches in an epoch."""
    return -(-photos // batch)


def epoch_batches(
    data: Decoded, params: Distill, epoch: int, context: DistributedContext = ALONE
) -> Iterator[Batch]:
    """An epoch's batches, or one process's share of each.

    Every photo comes once; sizes differ by at most one, so that no batch is too small for batch
    normalisation. The next ones are made while one is used.
    """
    order = generator(params.seed, "order", epoch).permutation(data.train)
    parts = np.array_split(order, count(len(order), params.batch))

    def make(rows: np.ndarray) -> Batch:
        """One batch of these rows."""
        own = rows[context.rank :: context.size]
        views = [_view(data, params, epoch, row) for row in own.tolist()]
        photos, masks = (np.stack(part) for part in zip(*views, strict=True))
        weights = torch.from_numpy(data.weights[own])
        return Batch(to_tensor(photos), to_tensor(masks[..., None]), weights, len(rows))

    return ahead(parts, make, 1)


def _view(data: Decoded, params: Distill, epoch: int, row: int) -> View:
    """What the student sees of a photo in an epoch, and its mask."""
    tiles, key = params.student.view == "tiles", (params.seed, epoch, row)
    if not params.augment:
        return plain(*data.photo(row), params.student.size, tiles, *key)
    draw = generator(params.seed, "donor", epoch, row)
    # Drawn for both kinds of photo alike, so that a splice says nothing about the rest.
    donor = data.photo(int(draw.choice(data.train))) if draw.random() < params.splices else None
    return augment(*data.photo(row), params.student.size, tiles, *key, donor)
