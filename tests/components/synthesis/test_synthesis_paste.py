"""What pasting keeps, what resampling must not mix, and where a mask lies."""

from __future__ import annotations

import numpy as np

from components.synthesis.paste import Layer, blend, bounds, lifted, premultiplied


def test_the_photo_is_kept_where_nothing_covers_it() -> None:
    photo = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    alpha = np.zeros((8, 8), np.float32)
    alpha[2:4, 2:4], alpha[5, 5] = 1, 0.5
    mixed = blend(photo, Layer(np.full(photo.shape, 255, np.float32), alpha))
    assert np.array_equal(mixed[alpha == 0], photo[alpha == 0])
    assert (mixed[2:4, 2:4] == 255).all()
    assert np.array_equal(mixed[5, 5], np.rint((photo[5, 5].astype(float) + 255) / 2))


def test_the_colour_behind_an_edge_does_not_bleed_in() -> None:
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[...] = (250, 0, 0, 0)  # invisible red
    rgba[:2] = (0, 0, 200, 255)
    picture = premultiplied(rgba)
    halved = (picture[0::2] + picture[1::2]) / 2
    layer = lifted((halved[:1] + halved[1:]) / 2)
    assert np.allclose(layer.pixels, (0, 0, 200), atol=1e-3)
    assert np.allclose(layer.alpha, 0.5)


def test_bounds_are_half_open() -> None:
    mask = np.zeros((40, 50), bool)
    mask[10:20, 15:30] = True
    assert bounds(mask) == (15, 10, 30, 20)
