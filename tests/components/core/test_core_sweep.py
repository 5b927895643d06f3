"""Thresholds: the same numbers as measuring each of them by itself, and the points among them."""

from __future__ import annotations

import numpy as np
import pytest

from components.core.metrics import image_metrics
from components.core.sweep import LEVELS, Sweep, above, at_alarms, at_half, best


def _photos(count: int = 6) -> list[tuple[np.ndarray, np.ndarray]]:
    """Maps with many pixels exactly on a level; every third photo is authentic."""
    random, photos = np.random.default_rng(3), []
    for number in range(count):
        mask = np.zeros((30, 20), dtype=bool)
        mask[: 5 * (number % 3)] = True
        whole = random.integers(0, 193, mask.shape) / 256 + 0.25 * mask
        whole = (whole + 0.125 * (number % 3 == 0)).astype(np.float32)
        near = np.nextafter(whole, random.choice([0, 1], mask.shape).astype(np.float32))
        photos.append((np.where(random.random(mask.shape) < 0.5, whole, near), mask))
    return photos


def _swept(photos: list[tuple[np.ndarray, np.ndarray]]) -> Sweep:
    sweep = Sweep()
    for number, (prob, mask) in enumerate(photos):
        sweep.add(above(prob, mask), number % 2)
    return sweep


def _measured(photos: list[tuple[np.ndarray, np.ndarray]], level: float) -> tuple[float, float]:
    rows = [image_metrics(prob, mask, level) for prob, mask in photos]
    f1, alarms = (np.array([row[name] for row in rows]) for name in ("f1", "false_alarm_area"))
    return float(np.nanmean(f1)), float(np.nanmean(alarms))


def test_every_threshold_agrees_with_measuring_at_it() -> None:
    photos = _photos()
    rows = _swept(photos).rows(1)
    assert [row["threshold"] for row in rows] == [round(level, 6) for level in LEVELS[:-1]]
    for row, level in zip(rows, LEVELS, strict=False):
        f1, alarms = _measured(photos, level)
        assert row["f1"] == pytest.approx(f1, abs=1e-6)
        assert row["false_alarm_area"] == pytest.approx(alarms, abs=1e-6)
        marked = sum(float((prob > level).mean()) for prob, _ in photos)
        caught = sum(float((prob[mask] > level).sum()) / prob.size for prob, mask in photos)
        if marked:
            assert row["precision"] == pytest.approx(caught / marked, abs=1e-6)
        truth = sum(mask.mean() for _, mask in photos)
        assert row["recall"] == pytest.approx(caught / truth, abs=1e-6)
    assert _swept(photos).rows(8) == rows[7::8]


def test_the_points_are_those_that_a_search_of_all_thresholds_finds() -> None:
    photos = _photos()
    total = _swept(photos).total()
    table = [(*_measured(photos, level), level) for level in LEVELS]
    found = [tuple(float(part[0]) for part in find(total)) for find in (at_half, best, at_alarms)]
    assert found[0] == pytest.approx(next(row for row in table if row[2] == 0.5))
    assert found[1] == pytest.approx(max(table, key=lambda row: (row[0], -row[2])))
    assert found[2] == pytest.approx(next(row for row in table if row[1] <= 0.01))
    assert 0 < found[2][0] < found[1][0]
    assert found[2][2] > found[1][2]


def test_one_threshold_is_chosen_for_all_photos_not_one_for_each() -> None:
    mask = np.zeros((4, 4), dtype=bool)
    mask[:2] = True
    bold, timid = np.where(mask, 0.9, 0.6), np.where(mask, 0.3, 0.1)
    photos = [(prob.astype(np.float32), mask) for prob in (bold, timid)]
    point = best(_swept(photos).total())
    # Each alone has a threshold with F1 1; together 2/3 and 1 is the best that one threshold gives.
    assert point.f1[0] == pytest.approx((2 / 3 + 1) / 2)
    assert 0.1 <= point.threshold[0] < 0.3


def test_a_student_that_marks_everything_has_no_f1_at_few_false_alarms() -> None:
    mask = np.zeros((4, 4), dtype=bool)
    mask[0] = True
    ones = np.ones((4, 4), np.float32)
    point = at_alarms(_swept([(ones, mask), (ones, ~mask & mask)]).total())
    assert (point.f1[0], point.alarms[0], point.threshold[0]) == (0, 0, 1)


def test_sums_are_of_source_groups_and_each_row_of_sums_has_its_own_points() -> None:
    photos = _photos(12)
    groups = _swept(photos).by_group()
    assert len(groups) == 2
    for number, group in enumerate(groups):
        alone = _swept(photos[number::2]).total()
        for find in (best, at_alarms):
            assert find(groups).f1[number] == pytest.approx(find(alone).f1[0])
            assert find(groups).threshold[number] == find(alone).threshold[0]
        assert group.sum() == pytest.approx(alone.sum())


def test_what_is_undefined_is_none_or_nan() -> None:
    assert {row["f1"] for row in Sweep().rows(8)} == {None}
    alone = Sweep()
    alone.add(above(np.zeros((4, 4), np.float32), np.zeros((4, 4), bool)))
    (row, *_) = alone.rows(8)
    assert row == {
        "threshold": 0.03125,
        "f1": None,
        "false_alarm_area": 0.0,
        "precision": None,
        "recall": None,
    }
    assert np.isnan(best(alone.total()).f1[0])
    marked = Sweep()
    marked.add(above(np.ones((4, 4), np.float32), np.ones((4, 4), bool)))
    assert best(marked.total()).f1[0] == 1
    assert np.isnan(at_alarms(marked.total()).f1[0])  # no authentic photo
