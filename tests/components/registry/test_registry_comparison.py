"""Candidate against champion: paired, clustered, and tests that keep their size."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from components.core.errors import InputError
from components.registry.comparison import Trial, bounds, compare, group_bounds

TRIAL = Trial(alpha=0.05, resamples=2000, seed=1)


def scored(values: list[float | None], first: int = 0) -> pd.DataFrame:
    rows = [
        {"image_id": f"p{first + i}", "group": f"g{i // 2}", "label": "manipulated", "f1": value}
        for i, value in enumerate(values)
    ]
    alarms = [
        {"image_id": f"a{i}", "group": f"h{i}", "label": "authentic", "false_alarm_area": i / 100}
        for i in range(3)
    ]
    return pd.DataFrame([*rows, *alarms], columns=[*rows[0], "false_alarm_area"] if rows else None)


def test_versions_are_compared_photo_by_photo() -> None:
    ours, theirs = scored([0.5, 0.7, 0.9, 0.1]), scored([0.4, 0.6, 0.8, 0.4])
    found = compare(7, ours.sample(frac=1, random_state=3), theirs, TRIAL, left_out=2)
    assert (found.champion, found.left_out, found.f1.n, found.f1.groups) == (7, 2, 4, 2)
    assert found.f1.candidate == found.f1.champion == pytest.approx(0.55)
    assert found.f1.value == pytest.approx(0.0)
    alarms = found.false_alarm_area
    assert (alarms.n, alarms.value, alarms.low, alarms.high) == (3, 0.0, 0.0, 0.0)


def test_other_photos_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="different photos"):
        compare(7, scored([0.5, 0.7]), scored([0.5, 0.7], first=1), TRIAL)
    with pytest.raises(InputError, match="cannot be compared"):
        compare(7, scored([0.5, None]), scored([0.5, 0.7]), TRIAL)
    with pytest.raises(InputError, match="twice"):
        compare(7, pd.concat([scored([0.5])] * 2), scored([0.5]), TRIAL)


def test_nothing_to_compare_has_no_bounds() -> None:
    empty = scored([0.5]).iloc[:0]
    found = compare(1, empty, empty, TRIAL, left_out=9).f1
    assert (found.value, found.low, found.high, found.n) == (None, None, None, 0)
    one = bounds(np.array([0.5, 0.6]), np.array([0.4, 0.4]), np.array(["g", "g"]), TRIAL)
    assert (one.low, one.high, one.groups) == (None, None, 1)
    assert one.value == pytest.approx(0.15)


def test_the_order_of_the_photos_does_not_matter() -> None:
    random = np.random.default_rng(3)
    ours, theirs = random.random(60), random.random(60)
    groups = np.array([f"g{i}" for i in random.integers(0, 20, 60)])
    order = random.permutation(60)
    again = bounds(ours[order], theirs[order], groups[order], TRIAL)
    found = bounds(ours, theirs, groups, TRIAL)
    assert found.low == pytest.approx(again.low)
    assert found.high == pytest.approx(again.high)


def test_many_equal_groups_agree_with_students_t() -> None:
    values = np.random.default_rng(4).normal(0.03, 0.1, 400)
    low, high = group_bounds(values[None], Trial(0.05, 20_000, 1))
    spread = stats.t.ppf(0.95, 399) * values.std(ddof=1) / 20
    assert low[0] == pytest.approx(values.mean() - spread, abs=spread / 20)
    assert high[0] == pytest.approx(values.mean() + spread, abs=spread / 20)


def test_bounds_are_those_of_the_bootstrap_done_by_hand_where_they_are_wider() -> None:
    values = np.random.default_rng(6).exponential(1.0, 12)  # skewed: the upper bound is far out
    low, high = group_bounds(values[None], Trial(0.05, 20_000, 1))
    random = np.random.default_rng(7)
    drawn = values[random.integers(0, 12, (20_000, 12))]
    error = values.std(ddof=1) / np.sqrt(12)
    ratios = (drawn.mean(axis=1) - values.mean()) / (drawn.std(axis=1, ddof=1) / np.sqrt(12))
    student = stats.t.ppf(0.95, 11)
    assert np.quantile(ratios, 0.05) < -student < -np.quantile(ratios, 0.95)
    expected = values.mean() - np.quantile(ratios, 0.05) * error
    assert high[0] == pytest.approx(expected, abs=error / 10)
    assert low[0] == pytest.approx(values.mean() - student * error)


def test_test_sets_are_judged_alike_together_and_alone() -> None:
    values = np.random.default_rng(8).normal(size=(5, 20))
    values[3] = 0.25  # all groups alike
    low, high = group_bounds(values, TRIAL)
    assert (low[3], high[3]) == (0.25, 0.25)
    for row in range(5):
        alone = group_bounds(values[row : row + 1], TRIAL)
        assert (low[row], high[row]) == pytest.approx((alone[0][0], alone[1][0]))


def test_two_groups_tell_nothing() -> None:
    found = bounds(np.array([0.5, 0.9]), np.array([0.4, 0.4]), np.array(["g", "h"]), TRIAL)
    assert (found.low, found.high, found.groups) == (None, None, 2)


def test_photos_of_one_source_count_as_one() -> None:
    values = np.random.default_rng(5).normal(0, 0.1, 30)
    single, _ = group_bounds(values[None], TRIAL)
    copied = np.repeat(values, 10)
    clustered = bounds(copied, np.zeros(300), np.repeat(np.arange(30), 10), TRIAL)
    alone = bounds(copied, np.zeros(300), np.arange(300), TRIAL)
    assert clustered.low == pytest.approx(single[0])
    assert alone.low > clustered.low
