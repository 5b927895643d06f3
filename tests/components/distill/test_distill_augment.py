from __future__ import annotations

import inspect

import numpy as np
import pytest

from components.distill import batches as module
from components.distill.batches import augment, plain


def pair():
    draw = np.random.default_rng(0)
    photo = draw.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    photo[:, :, 0] //= 4  # a colour cast, so that swapped channels show
    return photo, photo[:, :, 1].copy()


def view(photo, mask, *key, tiles=False):
    return augment(photo, mask, 64, tiles, *key)


def test_a_stream_per_epoch_and_photo():
    photo, mask = pair()
    first = view(photo, mask, 7, 1, 5)
    assert all(np.array_equal(a, b) for a, b in zip(first, view(photo, mask, 7, 1, 5), strict=True))
    others = [view(photo, mask, *key)[0] for key in ((7, 2, 5), (7, 1, 6), (8, 1, 5))]
    assert sum(not np.array_equal(first[0], other) for other in others) >= 2


def test_the_input_is_left_alone():
    photo, mask = pair()
    kept = photo.copy(), mask.copy()
    for row in range(20):
        view(photo, mask, 7, 1, row)
    assert np.array_equal(photo, kept[0])
    assert np.array_equal(mask, kept[1])


def test_flips_move_photo_and_mask_together(monkeypatch):
    for name in ("CROP", "JPEG", "RESIZE", "BLUR", "NOISE"):
        monkeypatch.setattr(module, name, 0)
    photo, mask = pair()
    seen = set()
    for row in range(40):
        flipped, moved = view(photo, mask, 7, 1, row)
        assert np.array_equal(flipped[:, :, 1], moved)
        seen.add(moved.tobytes())
    assert len(seen) == 4


def test_a_crop_moves_photo_and_mask_together(monkeypatch):
    for name, often in (
        ("FLIP", 0),
        ("CROP", 1),
        ("JPEG", 0),
        ("RESIZE", 0),
        ("BLUR", 0),
        ("NOISE", 0),
    ):
        monkeypatch.setattr(module, name, often)
    photo, mask = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
    photo[16:48, 16:48], mask[16:48, 16:48] = 255, 255
    shares = []
    for row in range(20):
        zoomed, moved = view(photo, mask, 7, 1, row)
        assert zoomed.shape == (64, 64, 3)
        assert np.array_equal(zoomed[:, :, 1], moved)
        shares.append((moved > 127).mean())
    assert max(shares) > 0.5
    assert np.mean(shares) > 0.25


@pytest.mark.parametrize("name", ["JPEG", "RESIZE", "BLUR", "NOISE"])
def test_each_treatment_changes_the_photo_a_little_and_never_the_mask(monkeypatch, name):
    for other in ("FLIP", "CROP", "JPEG", "RESIZE", "BLUR", "NOISE"):
        monkeypatch.setattr(module, other, float(other == name))
    photo = np.full((64, 64, 3), (40, 90, 200), np.uint8)
    photo[20:40, 20:40] = (200, 60, 20)
    treated, mask = view(photo, photo[:, :, 0], 7, 1, 0)
    assert np.array_equal(mask, photo[:, :, 0])
    assert treated.dtype == np.uint8
    assert not np.array_equal(treated, photo)
    assert np.abs(treated.astype(float) - photo).mean() < 8


def test_it_cannot_know_what_is_manipulated():
    """Equal treatment of both kinds: there is no label to look at, and an all-zero mask is one."""
    assert list(inspect.signature(augment).parameters) == [
        *("photo", "mask", "size", "tiles", "seed", "epoch", "row", "donor")
    ]
    photo, mask = pair()
    one, _ = view(photo, mask, 7, 1, 3)
    other, _ = view(photo, np.zeros_like(mask), 7, 1, 3)
    assert np.array_equal(one, other)


@pytest.mark.parametrize("shape", [(96, 70), (64, 64), (40, 200), (1, 90), (90, 1)])
@pytest.mark.parametrize("tiles", [False, True])
@pytest.mark.parametrize("make", [augment, plain])
def test_any_photo_becomes_a_view(make, tiles, shape):
    draw = np.random.default_rng(0)
    photo = draw.integers(0, 256, (*shape, 3), dtype=np.uint8)
    for row in range(5):
        seen, mask = make(photo, photo[:, :, 0], 64, tiles, 7, 1, row)
        assert seen.shape == (64, 64, 3)
        assert mask.shape == (64, 64)


def test_plain_view_of_a_large_photo_is_its_own_pixels_where_tiles_are_seen():
    photo = np.random.default_rng(0).integers(0, 256, (200, 150, 3), dtype=np.uint8)
    seen, mask = plain(photo, photo[:, :, 0], 64, True, 7, 1, 0)
    assert np.array_equal(seen[:, :, 0], mask)
    windows = np.lib.stride_tricks.sliding_window_view(photo[:, :, 0], (64, 64))
    assert (windows == mask).all(axis=(2, 3)).any()
    whole, _ = plain(photo, photo[:, :, 0], 64, False, 7, 1, 0)
    assert abs(float(whole.mean()) - photo.mean()) < 1
