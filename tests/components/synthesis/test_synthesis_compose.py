"""What a composition changes, and that its mask says exactly that."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from components.core.seeds import generator
from components.synthesis import compose

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
