from __future__ import annotations

import numpy as np
from evaluate_support import make_album, make_dataset, params, red_channel  # noqa: F401

from benchmarks.evaluation import bench_evaluation


def test_evaluation_and_forward_pass_are_timed_in_one_run(params, red_channel, tmp_path) -> None:
    calls: list[int] = []

    def forward(photos: list[np.ndarray]):
        assert len(photos) == 16
        assert photos[0].shape == (256, 384, 3)
        return lambda: calls.append(len(red_channel(photos)))

    found = bench_evaluation(16, red_channel, forward, params, tmp_path)
    assert calls == [16] * 4  # once to warm up
    assert found["photos"] == 16
    assert found["forward_seconds"] > 0
    assert found["evaluate_seconds"] > 0
    assert found["ratio"] > 0
