"""Contact sheets hold what they are given."""

from __future__ import annotations

import numpy as np

from components.serving.pictures import contact_sheet


def test_cells_keep_their_place_and_shape() -> None:
    red = np.zeros((40, 20, 3), dtype=np.uint8)
    red[..., 0] = 255
    grey = np.full((10, 30), 77, dtype=np.uint8)
    sheet = contact_sheet([[red], [grey, red]], side=40)
    assert sheet.shape == (2 * 48 + 8, 2 * 48 + 8, 3)
    assert (sheet == (255, 0, 0)).all(axis=2).sum() == 2 * 40 * 20
    assert (sheet == 77).all(axis=2).sum() == 10 * 30
    assert (sheet[:56, 56:] == 255).all()


def test_large_pictures_are_shrunk() -> None:
    sheet = contact_sheet([[np.zeros((400, 800), dtype=np.uint8)]], side=100)
    assert (sheet == 0).all(axis=2).sum() == 50 * 100


def test_nothing_to_show() -> None:
    assert (contact_sheet([]) == 255).all()
