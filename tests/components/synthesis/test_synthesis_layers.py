"""Placing, matching and blending one object."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from components.core.seeds import generator
from components.synthesis import layers
from components.synthesis.layers import Pose
from components.synthesis.paste import Layer, blend

Make = Callable[..., np.ndarray]


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_mask_is_the_cutouts_own_shape_where_it_was_put(
    mirrored: bool, make_cutout: Make
) -> None:
    rgba = make_cutout(1, height=41, width=51)
    rgba[:20, :25, 3] = 0  # not symmetric, so that mirroring shows
    layer = layers.place(rgba, Pose(1.0, 0.0, mirrored, x=80.0, y=60.0), 120, 180, feather=0.0)
    expected = np.zeros((120, 180), bool)
    shape = rgba[..., 3] > 127
    expected[40:81, 55:106] = shape[:, ::-1] if mirrored else shape
    np.testing.assert_array_equal(layer.mask, expected)
    pasted = blend(np.zeros((120, 180, 3), np.uint8), layer)
    colours = rgba[..., :3][:, ::-1] if mirrored else rgba[..., :3]
    inside = expected[40:81, 55:106]
    np.testing.assert_allclose(pasted[40:81, 55:106][inside], colours[inside], atol=1)


def test_a_pixel_belongs_to_the_mask_when_the_object_is_more_than_half_of_it() -> None:
    alpha = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    layer = Layer(np.zeros((16, 16, 3), np.float32), alpha)
    np.testing.assert_array_equal(layer.mask.ravel(), np.arange(256) / 255 > 0.5)


def test_scale_scales_the_area(make_cutout: Make) -> None:
    rgba = make_cutout(2)
    area = (rgba[..., 3] > 127).sum()
    for scale in (0.5, 1.5):
        mask = layers.place(rgba, Pose(scale, 15.0, False, 90.0, 60.0), 120, 180, 0.6).mask
        assert mask.sum() == pytest.approx(area * scale**2, rel=0.08)


def test_feathering_stays_inside_the_object() -> None:
    alpha = np.zeros((40, 40), np.float32)
    alpha[10:30, 10:30] = 1
    soft = layers.feathered(alpha, 1.5)
    assert not soft[alpha == 0].any()
    assert soft[20, 20] == pytest.approx(1, abs=1e-3)
    assert 0.2 < soft[10, 20] < 0.9


def test_blending_leaves_the_rest_alone(make_photo: Make) -> None:
    photo = make_photo(3)
    alpha = np.zeros(photo.shape[:2], np.float32)
    alpha[20:40, 20:40] = 0.5
    result = blend(photo, Layer(np.full(photo.shape, 255, np.float32), alpha))
    np.testing.assert_array_equal(result[alpha == 0], photo[alpha == 0])
    expected = np.rint((photo[20:40, 20:40].astype(np.float32) + 255) / 2)
    np.testing.assert_array_equal(result[20:40, 20:40], expected)


def _disc(value: float) -> Layer:
    alpha = np.zeros((100, 100), np.float32)
    alpha[30:70, 30:70] = 1
    pixels = np.full((100, 100, 3), value, np.float32)
    pixels[::2] += 10
    return Layer(pixels, alpha)


def test_matching_moves_brightness_towards_the_surroundings() -> None:
    dark = np.full((100, 100, 3), 40, np.uint8)
    bright = _disc(200.0)
    means = [
        layers.matched(dark, bright, strength).pixels[bright.mask].mean()
        for strength in (0.0, 0.4, 0.9)
    ]
    assert means[0] == pytest.approx(205, abs=1)
    assert means[0] > means[1] + 20 > means[2] + 40


def test_no_colour_is_pasted_into_a_grey_photo(make_cutout: Make) -> None:
    grey = np.full((120, 180, 3), 128, np.uint8)
    rgba = make_cutout(1)
    rgba[..., :3] = (220, 30, 30)
    layer = layers.place(rgba, Pose(1.0, 0.0, False, 90.0, 60.0), 120, 180, 0.6)
    pixels = layers.matched(grey, layer, 0.4).pixels[layer.mask]
    assert (pixels.max(axis=1) - pixels.min(axis=1)).max() < 2


def test_noise_is_measured_and_matched() -> None:
    rng = np.random.default_rng(0)
    grey = rng.normal(0, 8, (200, 200, 1))
    photo = np.clip(128 + np.repeat(grey, 3, axis=2), 0, 255)
    assert layers.noise_level(photo) == pytest.approx(8, rel=0.1)
    alpha = np.ones((200, 200), np.float32)
    clean = Layer(np.full((200, 200, 3), 90, np.float32), alpha)
    noisy = layers.with_noise_of(photo, clean, generator(1, "noise"))
    assert 3 < layers.noise_level(noisy.pixels) < 9
    again = layers.with_noise_of(photo / 8, noisy, generator(1, "noise"))
    np.testing.assert_array_equal(again.pixels, noisy.pixels)


def test_texture_is_not_taken_for_noise() -> None:
    grey = np.random.default_rng(0).normal(128, 2, (200, 200, 1))
    grey[:100] += 60 * np.random.default_rng(1).integers(0, 2, (100, 200, 1))
    photo = np.clip(np.repeat(grey, 3, axis=2), 0, 255)
    assert layers.noise_level(photo) < 5


def test_softening_blurs_without_a_dark_edge() -> None:
    layer = _disc(200.0)
    soft = layers.softened(Layer(layer.pixels * layer.alpha[..., None], layer.alpha), 1.0)
    assert soft.pixels[layer.mask].min() > 195
    assert soft.pixels[layer.mask].std() < layer.pixels[layer.mask].std()
    assert layers.softened(layer, 0.1) is layer
