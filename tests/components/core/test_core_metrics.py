"""Pixel metrics against slow, independent computations, and at their edges.

The folder of an installed `imdlbenco` in `$IMDLBENCO` adds a comparison with its own metric code
(`pip install --no-deps --target FOLDER imdlbenco`: its pins do not fit ours).
"""

from __future__ import annotations

import importlib
import math
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, jaccard_score, matthews_corrcoef, roc_auc_score

from components.core.metrics import image_metrics, image_score, pixel_auc

UNDEFINED = {"f1", "iou", "mcc", "auc", "false_alarm_area", "imdlbenco_f1", "true_area"}


def _random(seed: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(2, 40, 2))
    prob = (random.integers(0, levels, shape) / (levels - 1)).astype(np.float32)
    mask = random.random(shape) < random.random()
    mask.flat[0], mask.flat[1] = True, False
    return prob, mask


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), levels=st.sampled_from([2, 3, 11, 256, 100_000]))
def test_agrees_with_scikit_learn(seed: int, levels: int) -> None:
    prob, mask = _random(seed, levels)
    row = image_metrics(prob, mask)
    truth, predicted = mask.ravel(), prob.ravel() > 0.5
    assert row["f1"] == pytest.approx(f1_score(truth, predicted, zero_division=0), abs=1e-12)
    assert row["iou"] == pytest.approx(jaccard_score(truth, predicted, zero_division=0), abs=1e-12)
    assert row["auc"] == pytest.approx(roc_auc_score(truth, prob.ravel()), abs=1e-12)
    assert row["mcc"] == pytest.approx(matthews_corrcoef(truth, predicted), abs=1e-9)
    assert row["true_area"] == pytest.approx(truth.mean())
    assert row["area"] == pytest.approx(predicted.mean())
    assert math.isnan(row["false_alarm_area"])


def test_auc_counts_pairs_one_by_one() -> None:
    prob, mask = _random(3, 4)
    pairs = [(p > n) + 0.5 * (p == n) for p in prob[mask] for n in prob[~mask]]
    assert pixel_auc(prob, mask) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_perfect_prediction() -> None:
    mask = np.zeros((30, 20), dtype=bool)
    mask[3:9, 4:15] = True
    row = image_metrics(mask.astype(np.float32), mask)
    assert (row["f1"], row["iou"], row["auc"]) == (1, 1, 1)
    assert row["imdlbenco_f1"] == pytest.approx(1, abs=1e-6)
    assert row["area"] == pytest.approx(mask.mean())


def test_threshold_is_strict() -> None:
    mask = np.ones((4, 4), dtype=bool)
    at = np.full((4, 4), 0.5, dtype=np.float32)
    above = np.nextafter(at, np.float32(1))
    assert image_metrics(at, mask)["f1"] == 0
    assert image_metrics(above, mask)["f1"] == 1


def test_authentic_photo_has_false_alarms_only() -> None:
    prob = np.zeros((10, 10), dtype=np.float32)
    prob[:2, :5] = 0.9
    row = image_metrics(prob, np.zeros((10, 10), dtype=bool))
    assert row["false_alarm_area"] == row["area"] == pytest.approx(0.1)
    assert all(math.isnan(row[name]) for name in ("f1", "iou", "auc"))
    assert row["imdlbenco_f1"] == 0


def test_perfect_authentic_photo_scores_zero_by_imdlbenco_only() -> None:
    row = image_metrics(np.zeros((5, 5), dtype=np.float32), np.zeros((5, 5), dtype=bool))
    assert row["imdlbenco_f1"] == 0
    assert row["false_alarm_area"] == 0


def test_imdlbenco_formula() -> None:
    prob, mask = _random(8, 256)
    predicted = prob > 0.5
    tp, fp = (predicted & mask).sum(), (predicted & ~mask).sum()
    fn = (~predicted & mask).sum()
    precision, recall = tp / (tp + fp + 1e-8), tp / (tp + fn + 1e-8)
    expected = 2 * precision * recall / (precision + recall + 1e-8)
    assert image_metrics(prob, mask)["imdlbenco_f1"] == pytest.approx(expected, abs=1e-14)


def test_unknown_truth_and_full_mask() -> None:
    prob = np.full((3, 7), 0.75, dtype=np.float32)
    row = image_metrics(prob, None)
    assert {name for name, value in row.items() if math.isnan(value)} == UNDEFINED
    full = image_metrics(prob, np.ones((3, 7), dtype=bool))
    assert full["f1"] == 1
    assert math.isnan(full["auc"])


def test_faint_map_is_not_stretched() -> None:
    """Min-max normalising would lift the faint peak above the threshold."""
    prob = np.full((16, 16), 0.01, dtype=np.float32)
    prob[2:4, 2:4] = 0.2
    assert image_metrics(prob, np.zeros((16, 16), dtype=bool))["false_alarm_area"] == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (7, 13), (40, 60)])
def test_image_score_is_the_mean_of_the_highest_percent(shape: tuple[int, int]) -> None:
    prob = np.random.default_rng(1).random(shape, dtype=np.float32)
    taken = max(1, round(prob.size / 100))
    expected = np.mean(sorted(prob.ravel().tolist(), reverse=True)[:taken])
    assert image_score(prob) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    "bad",
    [
        np.full((4, 4), np.nan, dtype=np.float32),
        np.full((4, 4), np.inf, dtype=np.float32),
        np.full((4, 4), -0.1, dtype=np.float32),
        np.full((4, 4), 1.5, dtype=np.float32),
        np.zeros((4, 4)),
        np.zeros((4, 5), dtype=np.float32),
        np.zeros((4, 4, 1), dtype=np.float32),
    ],
    ids=["nan", "inf", "negative", "logits", "float64", "size", "channel"],
)
def test_unusable_probabilities_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"probabilities|expected"):
        image_metrics(bad, np.zeros((4, 4), dtype=bool))


def test_one_nan_pixel_is_seen() -> None:
    prob = np.zeros((64, 64), dtype=np.float32)
    prob[40, 7] = np.nan
    with pytest.raises(ValueError, match="nan"):
        image_metrics(prob, None)


@pytest.fixture
def benco(monkeypatch):
    """IMDL-BenCo's pixel F1; the packages above it are bare, as theirs import every model."""
    folder = os.environ.get("IMDLBENCO")
    if not folder:
        pytest.skip("$IMDLBENCO does not name a folder with the imdlbenco package")
    names = ("", ".evaluation", ".training_scripts", ".training_scripts.utils")
    for name in names:
        package = types.ModuleType(f"IMDLBenCo{name}")
        package.__path__ = [str(Path(folder, "IMDLBenCo", *name.strip(".").split(".")))]
        monkeypatch.setitem(sys.modules, package.__name__, package)
    # Its helpers for distributed logging; the metric of one process needs none of them.
    misc = types.ModuleType("IMDLBenCo.training_scripts.utils.misc")
    monkeypatch.setitem(sys.modules, misc.__name__, misc)
    sys.modules["IMDLBenCo.training_scripts.utils"].misc = misc
    found = importlib.import_module("IMDLBenCo.evaluation.F1")
    monkeypatch.setitem(sys.modules, found.__name__, found)
    return found.PixelF1(threshold=0.5)


def test_imdlbenco_convention_is_theirs_number_for_number(benco) -> None:
    for seed in range(200):
        prob, mask = _random(seed, 100_000)
        if seed % 10 == 0:
            mask[:] = False  # an authentic photo
        if seed % 15 == 0:
            prob[:] = 0
        tensors = (torch.from_numpy(part)[None, None] for part in (prob, mask.astype(np.float32)))
        theirs = benco.batch_update(*tensors).item()
        assert image_metrics(prob, mask)["imdlbenco_f1"] == pytest.approx(theirs, abs=2e-7)
