"""An epoch's batches, made ahead in a thread: order, crops and treatment from the seed alone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from components.params import Distill
from components.seeds import generator
from components.student.infer import to_tensor
from components.training.augment import augment, plain
from components.training.cache import Decoded
from components.training.parallel import ALONE, Team


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
    data: Decoded, params: Distill, epoch: int, team: Team = ALONE
) -> Iterator[Batch]:
    """An epoch's batches, or one process's share of each.

    Every photo comes once; sizes differ by at most one, so that no batch is too small for batch
    normalisation. The next batch is made while the current one is used.
    """
    order = generator(params.seed, "order", epoch).permutation(data.train)
    parts = np.array_split(order, count(len(order), params.batch))
    tiles = params.view == "tiles"
    make_view = augment if params.augment else plain

    def make(rows: np.ndarray) -> Batch:
        """One batch of these rows."""
        own = rows[team.rank :: team.size]
        views = [
            make_view(*data.photo(row), params.size, tiles, params.seed, epoch, row)
            for row in own.tolist()
        ]
        photos, masks = (np.stack(part) for part in zip(*views, strict=True))
        weights = torch.from_numpy(data.weights[own])
        return Batch(to_tensor(photos), to_tensor(masks[..., None]), weights, len(rows))

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(make, parts[0])
        for rows in parts[1:]:
            ready, coming = coming, pool.submit(make, rows)
            yield ready.result()
        yield coming.result()
