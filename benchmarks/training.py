"""How much a training epoch costs beyond the bare steps on batches that lie ready in memory."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from components.core.params import Distill
from components.core.seeds import fix_torch, generator
from components.distill.batches import count, epoch_batches
from components.distill.cache import MASKS, PHOTOS, Decoded
from components.distill.progress import Epoch
from components.distill.state import State, begin
from components.distill.trainer import distillation_course, train_epoch, train_step
from components.student.model import build, configure

_ROUNDS = 3


class _Quiet:
    """A watcher that nobody looks at."""

    def start(self, epoch: int, epochs: int, steps: int) -> None:
        """See `Watcher`."""

    def step(self, loss: float) -> None:
        """See `Watcher`."""

    def epoch(self, row: Epoch) -> None:
        """See `Watcher`."""


def bench_training(photos: int, params: Distill, folder: Path) -> dict[str, Any]:
    """Time whole training epochs against bare optimiser steps, alternating.

    An epoch reads photos from the memory-mapped cache, crops and treats them, steps, and keeps the
    running mean; a bare step is forward, loss, backward and optimiser on a batch in memory.
    Validation and checkpoints, once an epoch, are left out of both.

    Args:
        photos: made photos to train on.
        params: the block `distill`; weights are random.
        folder: an empty folder for the arrays.

    Returns:
        `photos`, `batch`, `steps`, `bare_seconds` and `epoch_seconds` of the fastest round, and
        `ratio`, the throughput of the epoch as a share of the bare steps'.
    """
    fix_torch(params.seed, params.threads)
    data = made(photos, params, folder)
    state = begin(build(configure(params.student), "none"), params)
    ready = list(epoch_batches(data, params, 1))
    state.student.train()
    train_step(state.student, state.optimiser, ready[0], params)  # the first one sets things up
    rounds = []
    for number in range(_ROUNDS):
        start = time.perf_counter()
        for batch in ready:
            train_step(state.student, state.optimiser, batch, params)
        middle = time.perf_counter()
        _epoch(state, data, params, number + 1)
        rounds.append((middle - start, time.perf_counter() - middle))
    bare, whole = (min(column) for column in zip(*rounds, strict=True))
    return {
        "photos": photos,
        "batch": params.batch,
        "steps": count(photos, params.batch),
        "bare_seconds": bare,
        "epoch_seconds": whole,
        "ratio": bare / whole,
    }


def _epoch(state: State, data: Decoded, params: Distill, epoch: int) -> None:
    train_epoch(state, distillation_course(state, data, params), params, epoch, _Quiet())


def made(photos: int, params: Distill, folder: Path) -> Decoded:
    """A cache of made photos: noise, every second one with a square pseudo-mask."""
    side = round(params.student.size * params.zoom)
    draw = generator(params.seed, "bench")
    rows = draw.integers(0, 256, (photos, side, side, 3), dtype=np.uint8)
    masks = np.zeros((photos, side, side), np.uint8)
    masks[::2, : side // 4, : side // 4] = 230
    np.save(folder / PHOTOS, rows)
    np.save(folder / MASKS, masks)
    return Decoded(
        key="made",
        photos=np.load(folder / PHOTOS, mmap_mode="r"),
        masks=np.load(folder / MASKS, mmap_mode="r"),
        sizes=np.full((photos, 2), side),
        weights=np.ones(photos, np.float32),
        manipulated=np.arange(photos) % 2 == 0,
        train=np.arange(photos),
        val=np.arange(0),
    )
