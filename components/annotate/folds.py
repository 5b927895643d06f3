"""Students trained on some of a data set's photos only, to judge the others or be compared.

The arrays are decoded once for all of them. A training that was killed continues after its last
epoch, and a finished one is found again: both by the content of everything it depends on.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from components.core.files import sha256_json
from components.core.params import Distill
from components.core.seeds import derive, fix_torch
from components.distill.cache import Decoded
from components.distill.progress import Epoch
from components.distill.run import training_key
from components.distill.trainer import train
from components.student.model import Student, build, configure


class Quiet:
    """A watcher that shows nothing."""

    def start(self, epoch: int, epochs: int, steps: int) -> None:
        """See `components.distill.progress.Watcher`."""

    def step(self, loss: float) -> None:
        """Likewise."""

    def epoch(self, row: Epoch) -> None:
        """Likewise."""


def trained(
    data: Decoded, learn: np.ndarray, select: np.ndarray, params: Distill, root: Path
) -> Student:
    """A student that learns some of the decoded photos.

    Args:
        data: photos and pseudo-masks.
        learn: numbers of the rows to train on.
        select: numbers of the rows on which the best epoch is chosen.
        params: the block `distill`.
        root: folder of the checkpoints.

    Raises:
        ImlError: the loss is not finite.
        InputError: nothing manipulated to select on; unusable backbone or weights.
    """
    fix_torch(derive(params.seed, "student"), params.threads)
    student = build(configure(params.student), params.student.weights)
    part = replace(data, train=learn, val=select)
    rows = [part.train.tolist(), part.val.tolist()]
    folder = root / sha256_json([training_key(student, part, params, 1), rows])
    folder.mkdir(parents=True, exist_ok=True)
    train(student, part, params, folder, Quiet())
    return student
