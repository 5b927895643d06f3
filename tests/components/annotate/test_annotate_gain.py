from __future__ import annotations

import numpy as np
import pytest

from components.annotate.gain import Seen, by_gain, entropy, seen


def _spot(name: str, unsure: float, *look: float) -> Seen:
    return Seen(name, unsure, np.array(look, np.float32))


def test_entropy_is_that_of_a_coin():
    assert entropy(np.full((4, 4), 0.5, np.float32)) == pytest.approx(1)
    assert entropy(np.array([[0.0, 1.0]], np.float32)) == pytest.approx(0, abs=1e-5)
    assert entropy(np.array([[0.11, 0.11]], np.float32)) == pytest.approx(0.49992, abs=1e-4)


def test_worth_times_distance_decides_each_time():
    photos = [_spot("a", 0.9, 0), _spot("b", 0.8, 0.1), _spot("c", 0.3, 1), _spot("d", 0.5, 0.5)]
    found = by_gain(photos)
    assert [row.name for row in found] == ["a", "c", "d", "b"]
    assert [row.value for row in found] == pytest.approx([0.9, 0.3, 0.25, 0.08])
    assert [row.distance for row in found] == pytest.approx([1, 1, 0.5, 0.1])


def test_beyond_the_photos_that_are_spread_each_stands_alone():
    photos = [_spot("a", 0.9, 0), _spot("b", 0.8, 0.2), _spot("c", 0.7, 0.21), _spot("d", 0, 9)]
    found = by_gain(photos, spread=1)
    assert [row.name for row in found] == ["a", "b", "c", "d"]
    assert found[2].distance == pytest.approx(0.21)  # not 0.01, to "b"


def test_equal_photos_stand_by_name():
    photos = [_spot(name, 0.5, 0) for name in "cab"]
    assert [row.name for row in by_gain(photos)] == ["a", "b", "c"]


def test_a_look_tells_photos_and_answers_apart_at_any_size():
    dark, bright = (np.full((50, 70, 3), level, np.uint8) for level in (0, 255))
    none, all_ = (np.full((50, 70), level, np.float32) for level in (0, 1))
    first = seen("a", dark, none)
    for photo, answer, expected in (
        (dark, none, 0.0),
        (dark, all_, np.sqrt(0.5)),
        (bright, none, np.sqrt(0.5)),
        (bright, all_, 1.0),
    ):
        larger = seen("b", np.repeat(photo, 9, axis=1), np.repeat(answer, 9, axis=1))
        assert np.sqrt(((larger.look - first.look) ** 2).sum()) == pytest.approx(expected)
