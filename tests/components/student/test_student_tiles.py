from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.student.tiles import blended, places


@given(st.integers(8, 64), st.integers(0, 3000), st.floats(0, 0.9))
def test_places_cover_a_side_with_the_overlap_asked_for(size, more, overlap):
    length = size + more
    starts = places(length, size, overlap)
    assert starts[0] == 0
    assert starts[-1] == length - size
    assert starts == sorted(starts)
    gaps = np.diff(starts)
    assert (gaps <= max(1, int(size * (1 - overlap))) + 1).all()
    assert (gaps <= size).all()


@pytest.mark.parametrize("shape", [(16, 16), (100, 37), (5, 90), (90, 1)])
def test_a_pixels_answer_comes_back_at_its_place(shape):
    photo = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    sizes = []

    def red(squares):
        sizes.append(squares.shape)
        return squares[..., 0].astype(np.float32) / 255

    found = blended(photo, 16, 0.25, red, batch=3)
    np.testing.assert_allclose(found, photo[..., 0] / 255, atol=1e-5)
    assert found.dtype == np.float32
    assert all(size[1:] == (16, 16, 3) and size[0] <= 3 for size in sizes)


def test_no_seam_between_squares_that_disagree():
    photo = np.zeros((16, 28, 3), np.uint8)
    answers = iter([0.0, 1.0])

    def disagree(squares):
        return np.stack([np.full((16, 16), next(answers), np.float32) for _ in squares])

    line = blended(photo, 16, 0.25, disagree, batch=1)[8]
    assert (line[:12] == 0).all()
    assert (line[16:] == 1).all()
    assert (np.diff(line[11:17]) > 0).all()
    assert np.diff(line).max() < 0.3
