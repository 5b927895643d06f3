from __future__ import annotations

import numpy as np
from distill_support import settings, steady_torch  # noqa: F401

from benchmarks.training import bench_training, made
from components.distill.batches import epoch_batches


def test_epochs_and_bare_steps_are_timed_in_one_run(settings, tmp_path):
    found = bench_training(8, settings(), tmp_path)
    assert (found["photos"], found["batch"], found["steps"]) == (8, 4, 2)
    assert found["bare_seconds"] > 0
    assert found["epoch_seconds"] > 0
    assert 0 < found["ratio"] < 3


def test_made_photos_are_distinct_and_half_of_them_masked(settings, tmp_path):
    data = made(8, settings(), tmp_path)
    assert isinstance(data.photos, np.memmap)
    assert len({photo.tobytes() for photo in data.photos}) == 8
    parts = list(epoch_batches(data, settings(augment=False), 1))
    present = [bool(target.any()) for part in parts for target in part.targets]
    assert sum(present) == 4
