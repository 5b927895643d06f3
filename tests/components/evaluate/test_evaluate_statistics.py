"""Intervals: coverage, clustering, seeds, empty classes, pairs."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from components.evaluate import statistics
from components.evaluate.statistics import Bootstrap, auc, mean, of_sums, paired_difference

BOOTSTRAP = Bootstrap(resamples=400, confidence=0.9, seed=3)


def _clustered(
    random: np.random.Generator, groups: int, each: int
) -> tuple[np.ndarray, np.ndarray]:
    """Photos of a group share most of their value; the true mean is 0.5."""
    codes = np.repeat(np.arange(groups), each)
    shared = random.normal(0, 0.2, groups)[codes]
    return 0.5 + shared + random.normal(0, 0.05, len(codes)), codes


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        interval = mean(*_clustered(random, 40, 5), BOOTSTRAP)
        hits += interval.low <= 0.5 <= interval.high
    # 90 % nominal; percentile intervals of 40 groups fall a little short. 4 sigma either side.
    assert 0.79 <= hits / 200 <= 0.97


def test_drawing_single_photos_would_be_too_narrow() -> None:
    values, groups = _clustered(np.random.default_rng(1), 40, 5)
    clustered = mean(values, groups, BOOTSTRAP)
    single = mean(values, np.arange(len(values)), BOOTSTRAP)
    assert clustered.value == single.value
    assert clustered.high - clustered.low > 1.6 * (single.high - single.low)


def test_matches_a_plain_loop() -> None:
    values, groups = _clustered(np.random.default_rng(2), 30, 3)
    random = np.random.default_rng(9)
    samples = []
    for _ in range(4000):
        drawn = random.integers(0, 30, 30)
        samples.append(np.concatenate([values[groups == group] for group in drawn]).mean())
    interval = mean(values, groups, Bootstrap(4000, 0.9, 5))
    assert interval.low == pytest.approx(np.quantile(samples, 0.05), abs=0.006)
    assert interval.high == pytest.approx(np.quantile(samples, 0.95), abs=0.006)


def test_groups_of_unequal_size_are_weighted_by_photos() -> None:
    values = [1.0] * 9 + [0.0]
    interval = mean(values, ["a"] * 9 + ["b"], BOOTSTRAP)
    assert interval.value == pytest.approx(0.9)
    assert (interval.low, interval.high) == (0, 1)


def test_seed_decides_and_row_order_does_not() -> None:
    values, groups = _clustered(np.random.default_rng(4), 20, 4)
    first = mean(values, groups, BOOTSTRAP)
    again = mean(values[::-1], groups[::-1], BOOTSTRAP)
    other = mean(values, groups, Bootstrap(400, 0.9, 4))
    assert first == mean(values, groups, BOOTSTRAP)
    assert (again.low, again.high) == pytest.approx((first.low, first.high), abs=1e-12)
    assert (other.low, other.high) != (first.low, first.high)


def test_result_does_not_depend_on_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    values, groups = _clustered(np.random.default_rng(4), 20, 4)
    whole = mean(values, groups, BOOTSTRAP)
    monkeypatch.setattr(statistics, "_BLOCK", 50)
    assert mean(values, groups, BOOTSTRAP) == whole


def test_undefined_values_are_left_out() -> None:
    interval = mean([0.25, np.nan, 0.75], ["a", "b", "c"], BOOTSTRAP)
    assert (interval.value, interval.n) == (0.5, 2)


@pytest.mark.parametrize("values", [[], [np.nan, np.nan]])
def test_empty_class_has_no_value(values: list[float]) -> None:
    interval = mean(values, ["g"] * len(values), BOOTSTRAP)
    assert interval.as_dict() == {"value": None, "low": None, "high": None, "n": 0}


def test_one_group_has_a_value_and_no_interval() -> None:
    interval = mean([0.2, 0.4], ["g", "g"], BOOTSTRAP)
    assert interval.value == pytest.approx(0.3)
    assert (interval.low, interval.high) == (None, None)


def test_auc_with_ties_agrees_with_scikit_learn() -> None:
    random = np.random.default_rng(6)
    scores = random.integers(0, 9, 120) / 8
    truth = random.random(120) < 0.3 + 0.4 * scores
    interval = auc(scores, truth, np.arange(120) // 3, BOOTSTRAP)
    assert interval.value == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert interval.low < interval.value < interval.high
    assert interval.n == 120


def test_auc_interval_matches_a_plain_loop() -> None:
    random = np.random.default_rng(7)
    scores = random.integers(0, 20, 90) / 19
    truth = random.random(90) < 0.2 + 0.6 * scores
    groups = np.arange(90) // 3
    samples = []
    for _ in range(600):
        rows = np.concatenate([np.flatnonzero(groups == g) for g in random.integers(0, 30, 30)])
        samples.append(roc_auc_score(truth[rows], scores[rows]))
    interval = auc(scores, truth, groups, Bootstrap(2000, 0.9, 2))
    expected = np.quantile(samples, [0.05, 0.95])
    assert (interval.low, interval.high) == pytest.approx(tuple(expected), abs=0.02)


@pytest.mark.parametrize("truth", [[True, True], [False, False]])
def test_auc_of_one_class_is_undefined(truth: list[bool]) -> None:
    assert auc([0.1, 0.9], truth, ["a", "b"], BOOTSTRAP).value is None


def test_auc_skips_resamples_without_a_class() -> None:
    interval = auc([0.1, 0.9, 0.2], [False, True, False], ["a", "b", "c"], BOOTSTRAP)
    assert (interval.value, interval.low, interval.high) == (1, 1, 1)


def test_pairing_shows_a_difference_that_two_intervals_hide() -> None:
    random = np.random.default_rng(8)
    champion, groups = _clustered(random, 30, 4)
    candidate = champion + 0.02 + random.normal(0, 0.01, len(champion))
    difference = paired_difference(candidate, champion, groups, resamples=500, seed=1)
    apart = mean(champion, groups, BOOTSTRAP)
    assert difference.value == pytest.approx(0.02, abs=0.005)
    assert 0 < difference.low < difference.value < difference.high
    assert apart.high - apart.low > 5 * (difference.high - difference.low)


def test_pair_of_equal_models_is_zero() -> None:
    difference = paired_difference([0.1, 0.7, np.nan], [0.1, 0.7, np.nan], ["a", "b", "c"])
    assert (difference.value, difference.low, difference.high, difference.n) == (0, 0, 0, 2)


def test_pair_refuses_numbers_that_do_not_match() -> None:
    with pytest.raises(ValueError, match="one model only"):
        paired_difference([0.1, np.nan], [0.1, 0.2], ["a", "b"])
    with pytest.raises(ValueError, match="photos"):
        paired_difference([0.1], [0.1], ["a", "b"])


def test_a_ratio_of_sums_agrees_with_the_mean() -> None:
    values, groups = _clustered(np.random.default_rng(2), 20, 4)

    def ratio(sums: np.ndarray) -> np.ndarray:
        return sums[:, 0] / sums[:, 1]

    found = of_sums(np.stack([values, np.ones_like(values)], 1), groups, ratio, BOOTSTRAP)
    expected = mean(values, groups, BOOTSTRAP)
    assert found.n == expected.n
    for name in ("value", "low", "high"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-12)
    assert of_sums(np.zeros((0, 2)), [], ratio, BOOTSTRAP).value is None
