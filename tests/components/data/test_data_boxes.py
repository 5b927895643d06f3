from __future__ import annotations

import numpy as np
import pytest

from components.core.images import PhotoError
from components.data.boxes import MOST, SLIVER, SPECK, component_boxes, loosen


def mask(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    out = np.zeros((100, 120), bool)
    for x0, y0, x1, y1 in boxes:
        out[y0:y1, x0:x1] = True
    return out


def test_one_half_open_box_per_component_largest_first() -> None:
    found = component_boxes(mask((5, 6, 15, 18), (40, 50, 80, 90)))
    assert found.dtype == np.float64
    assert found.tolist() == [[40, 50, 80, 90], [5, 6, 15, 18]]


def test_pieces_that_touch_at_a_corner_are_one() -> None:
    assert component_boxes(mask((0, 0, 10, 10), (10, 10, 20, 20))).tolist() == [[0, 0, 20, 20]]


@pytest.mark.parametrize("speck", [(0, 0, 3, 5), (0, 0, SLIVER - 1, 40), (0, 0, 40, 1)])
def test_dirt_is_ignored_unless_there_is_nothing_better(speck: tuple[int, int, int, int]) -> None:
    good = (50, 50, 54, 50 + SPECK // 4)
    assert component_boxes(mask(speck, good)).tolist() == [list(good)]
    assert component_boxes(mask(speck)).tolist() == [list(speck)]


def test_a_box_within_another_is_dropped() -> None:
    ring = mask((10, 10, 60, 60))
    ring[15:55, 15:55] = False
    ring[30:40, 30:40] = True
    assert component_boxes(ring).tolist() == [[10, 10, 60, 60]]


def test_a_mask_of_noise_is_refused_before_every_box_is_compared() -> None:
    dots = np.zeros((64 * 6, 65 * 6), bool)
    for row in range(4):
        for column in range(4):
            dots[row::6, column::6] = True
    assert len(component_boxes(dots[:, : 64 * 6])) == MOST
    with pytest.raises(PhotoError, match="has 4,160 separate regions"):
        component_boxes(dots)


def test_an_empty_mask_has_no_box() -> None:
    assert component_boxes(mask()).shape == (0, 4)
    assert loosen(component_boxes(mask()), 120, 100, 0.1, 7, "a").shape == (0, 4)


def test_sides_move_outwards_by_at_most_the_jitter_and_stay_in_the_photo() -> None:
    tight = np.array([[20.0, 30, 60, 50], [0, 0, 120, 100]])
    moves = []
    for number in range(300):
        loose = loosen(tight, 120, 100, 0.25, 7, f"{number}.jpg")
        assert loose[1].tolist() == [0, 0, 120, 100]
        moves.append((loose[0] - tight[0]) / [-40, -20, 40, 20])
    shares = np.array(moves)
    assert shares.min() >= 0
    assert 0.24 < shares.max() <= 0.25
    # Uniform, each side on its own.
    np.testing.assert_allclose(shares.mean(axis=0), 0.125, atol=0.02)
    assert np.abs(np.corrcoef(shares.T) - np.eye(4)).max() < 0.25


def test_the_draw_is_the_photos_own() -> None:
    tight = np.array([[20.0, 30, 60, 50]])
    first = loosen(tight, 120, 100, 0.1, 7, "a.jpg")
    assert (first == loosen(tight, 120, 100, 0.1, 7, "a.jpg")).all()
    assert (first != loosen(tight, 120, 100, 0.1, 7, "b.jpg")).all()
    assert (first != loosen(tight, 120, 100, 0.1, 8, "a.jpg")).all()
    assert (loosen(tight, 120, 100, 0.0, 7, "a.jpg") == tight).all()
