"""Other thresholds: the same numbers as measuring each of them by itself."""

from __future__ import annotations

import numpy as np
import pytest

from components.core.metrics import image_metrics
from components.evaluate.calibration import LEVELS, Sweep, above
from components.evaluate.run import evaluate


def test_every_threshold_agrees_with_measuring_at_it() -> None:
    random = np.random.default_rng(3)
    sweep, photos = Sweep(), []
    for number in range(6):
        prob = random.integers(0, 41, (30, 20)).astype(np.float32) / np.float32(40)
        mask = np.zeros((30, 20), dtype=bool)
        mask[: 5 * (number % 3)] = True  # two of the six are authentic
        photos.append((prob, mask))
        sweep.add(above(prob, mask))
    for row, level in zip(sweep.rows(), LEVELS, strict=True):
        found = [image_metrics(prob, mask, level) for prob, mask in photos]
        for name in ("f1", "false_alarm_area"):
            assert row[name] == pytest.approx(np.nanmean([f[name] for f in found]), abs=1e-6)
        marked = sum(f["area"] for f in found)
        caught = sum(float((prob[mask] > level).sum()) / prob.size for prob, mask in photos)
        assert row["precision"] == pytest.approx(caught / marked, abs=1e-6)
        truth = sum(mask.mean() for _, mask in photos)
        assert row["recall"] == pytest.approx(caught / truth, abs=1e-6)


def test_what_is_undefined_is_none() -> None:
    assert {row["f1"] for row in Sweep().rows()} == {None}
    alone = Sweep()
    alone.add(above(np.zeros((4, 4), np.float32), np.zeros((4, 4), bool)))
    (row, *_) = alone.rows()
    assert row == {
        "threshold": 0.05,
        "f1": None,
        "false_alarm_area": 0.0,
        "precision": None,
        "recall": None,
    }


def test_the_metrics_have_them(make_dataset, params) -> None:
    images, root = make_dataset()
    random = np.random.default_rng(0)
    metrics = evaluate(
        lambda photos: [random.random(p.shape[:2], dtype=np.float32) for p in photos],
        images,
        root,
        params,
    ).metrics
    (fixed,) = [row for row in metrics["thresholds"] if row["threshold"] == 0.5]
    assert fixed["f1"] == pytest.approx(metrics["f1"]["value"], abs=1e-6)
    assert fixed["false_alarm_area"] == pytest.approx(
        metrics["false_alarm_area"]["value"], abs=1e-6
    )
