"""What a composition changes, that its mask says exactly that, and how an object is laid on."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from components.core.seeds import generator
from components.synthesis import compose
from components.synthesis.compose import Pose
from components.synthesis.paste import Layer, blend

Make = Callable[..., np.ndarray]


def _compose(
    kind: str, photo: np.ndarray, cutout: np.ndarray, seed: int
) -> compose.Composition | None:
    rng = generator(seed, kind)
    if kind == compose.SPLICE:
        return compose.splice(photo, [cutout], rng)
    return (compose.copy_move if kind == compose.COPY_MOVE else compose.removal)(photo, rng)


@pytest.mark.parametrize("kind", [compose.SPLICE, compose.COPY_MOVE, compose.REMOVAL])
def test_only_the_region_changes_and_the_mask_is_exact(
    kind: str, make_photo: Make, make_cutout: Make
) -> None:
    made = 0
    for seed in range(8):
        photo = make_photo(seed)
        result = _compose(kind, photo, make_cutout(seed), seed)
        if result is None:
            continue
        made += 1
        assert result.photo.dtype == np.uint8
        assert result.photo.shape == photo.shape
        # Outside what was touched every pixel is the photo's own.
        np.testing.assert_array_equal(result.photo[~result.touched], photo[~result.touched])
        # The feather is narrow: what is touched lies within 4 pixels of the mask.
        near = cv2.dilate(result.mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        assert not (result.touched & ~near).any()
        assert (result.mask <= result.touched).all()
        # Inside, the photo is another one nearly everywhere.
        changed = (result.photo != photo).any(axis=2)
        assert changed[result.mask].mean() > 0.8
        assert compose.LOW <= result.mask.mean() <= compose.HIGH
    assert made >= 3


def test_copy_move_repeats_what_stands_elsewhere() -> None:
    """A red disc on grey ground: copied, there is more red; covered, there is less."""
    photo = np.random.default_rng(0).integers(100, 130, (120, 180, 1), dtype=np.uint8)
    photo = np.repeat(photo, 3, axis=2)
    cv2.circle(photo, (60, 60), 18, (230, 30, 30), -1)
    before = _red(photo)
    counts = []
    for seed in range(16):
        result = compose.copy_move(photo, generator(seed, "copy"))
        if result is not None:
            counts.append(_red(result.photo))
    assert len(counts) >= 4
    assert sum(count > 1.1 * before for count in counts) >= 2
    assert all(count != before for count in counts)


def _red(photo: np.ndarray) -> int:
    red, green = photo[..., 0].astype(int), photo[..., 1].astype(int)
    return int((red - green > 60).sum())


def test_removal_takes_the_object_away() -> None:
    """A bright disc on even ground: where a removal covers the whole disc, ground is left."""
    rng = np.random.default_rng(5)
    photo = np.clip(rng.normal(110, 4, (120, 180, 3)), 0, 255).astype(np.uint8)
    disc = np.zeros((120, 180), np.uint8)
    cv2.circle(disc, (90, 60), 16, 1, -1)
    photo[disc > 0] = (250, 240, 60)
    covered = 0
    for seed in range(20):
        result = compose.removal(photo, generator(seed, "remove"))
        if result is not None and result.mask[disc > 0].all():
            covered += 1
            np.testing.assert_allclose(result.photo[disc > 0], 110, atol=45)
    assert covered >= 2


def test_two_objects_give_two_separate_regions(make_photo: Make, make_cutout: Make) -> None:
    for seed in range(20):
        objects = [make_cutout(seed), make_cutout(seed + 50)]
        result = compose.splice(make_photo(seed), objects, generator(seed, "two"))
        if result is not None:
            break
    assert result is not None
    assert len(result.masks) == 2
    assert not (result.masks[0] & result.masks[1]).any()
    assert cv2.connectedComponents(result.mask.astype(np.uint8))[0] == 3


def test_nothing_to_remove_or_copy_in_an_empty_photo() -> None:
    even = np.full((120, 180, 3), 90, np.uint8)
    for seed in range(2):
        assert compose.copy_move(even, generator(seed, "even")) is None
        assert compose.removal(even, generator(seed, "even")) is None


def test_usual_shares_are_neither_specks_nor_whole_photos() -> None:
    rng = generator(1, "shares")
    shares = np.array([compose.usual_share(rng) for _ in range(2000)])
    assert shares.min() >= compose.LOW
    assert shares.max() <= compose.HIGH
    assert ((shares > 0.03) & (shares < 0.15)).mean() > 0.7


def test_an_object_of_another_photo_is_cut_with_a_clear_rim() -> None:
    donor = np.full((120, 180, 3), 60, np.uint8)
    donor = donor + np.random.default_rng(2).integers(0, 8, donor.shape, dtype=np.uint8)
    cv2.circle(donor, (90, 60), 20, (220, 40, 40), -1)
    for seed in range(10):
        rgba = compose.cut_object(donor, generator(seed, "cut"))
        if rgba is not None:
            break
    assert rgba is not None
    alpha = rgba[..., 3]
    assert alpha.max() == 255
    assert not alpha[0].any()
    assert not alpha[:, -1].any()
    assert 0.3 < (alpha > 127).mean() < 0.95


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_mask_is_the_cutouts_own_shape_where_it_was_put(
    mirrored: bool, make_cutout: Make
) -> None:
    rgba = make_cutout(1, height=41, width=51)
    rgba[:20, :25, 3] = 0  # not symmetric, so that mirroring shows
    layer = compose.place(rgba, Pose(1.0, 0.0, mirrored, x=80.0, y=60.0), 120, 180, feather=0.0)
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
        mask = compose.place(rgba, Pose(scale, 15.0, False, 90.0, 60.0), 120, 180, 0.6).mask
        assert mask.sum() == pytest.approx(area * scale**2, rel=0.08)


def test_feathering_stays_inside_the_object() -> None:
    alpha = np.zeros((40, 40), np.float32)
    alpha[10:30, 10:30] = 1
    soft = compose.feathered(alpha, 1.5)
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
        compose.matched(dark, bright, strength).pixels[bright.mask].mean()
        for strength in (0.0, 0.4, 0.9)
    ]
    assert means[0] == pytest.approx(205, abs=1)
    assert means[0] > means[1] + 20 > means[2] + 40


def test_no_colour_is_pasted_into_a_grey_photo(make_cutout: Make) -> None:
    grey = np.full((120, 180, 3), 128, np.uint8)
    rgba = make_cutout(1)
    rgba[..., :3] = (220, 30, 30)
    layer = compose.place(rgba, Pose(1.0, 0.0, False, 90.0, 60.0), 120, 180, 0.6)
    pixels = compose.matched(grey, layer, 0.4).pixels[layer.mask]
    assert (pixels.max(axis=1) - pixels.min(axis=1)).max() < 2


def test_noise_is_measured_and_matched() -> None:
    rng = np.random.default_rng(0)
    grey = rng.normal(0, 8, (200, 200, 1))
    photo = np.clip(128 + np.repeat(grey, 3, axis=2), 0, 255)
    assert compose.noise_level(photo) == pytest.approx(8, rel=0.1)
    alpha = np.ones((200, 200), np.float32)
    clean = Layer(np.full((200, 200, 3), 90, np.float32), alpha)
    noisy = compose.with_noise_of(photo, clean, generator(1, "noise"))
    assert 3 < compose.noise_level(noisy.pixels) < 9
    again = compose.with_noise_of(photo / 8, noisy, generator(1, "noise"))
    np.testing.assert_array_equal(again.pixels, noisy.pixels)


def test_texture_is_not_taken_for_noise() -> None:
    grey = np.random.default_rng(0).normal(128, 2, (200, 200, 1))
    grey[:100] += 60 * np.random.default_rng(1).integers(0, 2, (100, 200, 1))
    photo = np.clip(np.repeat(grey, 3, axis=2), 0, 255)
    assert compose.noise_level(photo) < 5


def test_softening_blurs_without_a_dark_edge() -> None:
    layer = _disc(200.0)
    soft = compose.softened(Layer(layer.pixels * layer.alpha[..., None], layer.alpha), 1.0)
    assert soft.pixels[layer.mask].min() > 195
    assert soft.pixels[layer.mask].std() < layer.pixels[layer.mask].std()
    assert compose.softened(layer, 0.1) is layer
