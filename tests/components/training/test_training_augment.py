from __future__ import annotations

import inspect

import numpy as np
import pytest

from components.training import augment as module
from components.training.augment import augment


def pair():
    draw = np.random.default_rng(0)
    photo = draw.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    photo[:, :, 0] //= 4  # a colour cast, so that swapped channels show
    return photo, photo[:, :, 1].copy()


def test_a_stream_per_epoch_and_photo():
    photo, mask = pair()
    first = augment(photo, mask, 7, 1, 5)
    assert all(
        np.array_equal(a, b) for a, b in zip(first, augment(photo, mask, 7, 1, 5), strict=True)
    )
    others = [augment(photo, mask, *key)[0] for key in ((7, 2, 5), (7, 1, 6), (8, 1, 5))]
    assert sum(not np.array_equal(first[0], other) for other in others) >= 2


def test_the_input_is_left_alone():
    photo, mask = pair()
    kept = photo.copy(), mask.copy()
    for row in range(20):
        augment(photo, mask, 7, 1, row)
    assert np.array_equal(photo, kept[0])
    assert np.array_equal(mask, kept[1])


def test_flips_move_photo_and_mask_together(monkeypatch):
    for name in ("ZOOM", "JPEG", "BLUR", "NOISE"):
        monkeypatch.setattr(module, name, 0)
    photo, mask = pair()
    seen = set()
    for row in range(40):
        flipped, moved = augment(photo, mask, 7, 1, row)
        assert np.array_equal(flipped[:, :, 1], moved)
        seen.add(moved.tobytes())
    assert len(seen) == 4


def test_a_zoom_moves_photo_and_mask_together(monkeypatch):
    for name, often in (("FLIP", 0), ("ZOOM", 1), ("JPEG", 0), ("BLUR", 0), ("NOISE", 0)):
        monkeypatch.setattr(module, name, often)
    photo, mask = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
    photo[16:48, 16:48], mask[16:48, 16:48] = 255, 255
    shares = []
    for row in range(20):
        zoomed, moved = augment(photo, mask, 7, 1, row)
        assert zoomed.shape == (64, 64, 3)
        assert np.array_equal(zoomed[:, :, 1], moved)
        shares.append((moved > 127).mean())
    assert max(shares) > 0.5
    assert np.mean(shares) > 0.25


@pytest.mark.parametrize("name", ["JPEG", "BLUR", "NOISE"])
def test_each_treatment_changes_the_photo_a_little_and_never_the_mask(monkeypatch, name):
    for other in ("FLIP", "ZOOM", "JPEG", "BLUR", "NOISE"):
        monkeypatch.setattr(module, other, float(other == name))
    photo = np.full((64, 64, 3), (40, 90, 200), np.uint8)
    photo[20:40, 20:40] = (200, 60, 20)
    treated, mask = augment(photo, photo[:, :, 0], 7, 1, 0)
    assert np.array_equal(mask, photo[:, :, 0])
    assert treated.dtype == np.uint8
    assert not np.array_equal(treated, photo)
    assert np.abs(treated.astype(float) - photo).mean() < 8


def test_it_cannot_know_what_is_manipulated():
    """Equal treatment of both kinds: there is no label to look at, and an all-zero mask is one."""
    assert list(inspect.signature(augment).parameters) == ["photo", "mask", "seed", "epoch", "row"]
    photo, mask = pair()
    one, _ = augment(photo, mask, 7, 1, 3)
    other, _ = augment(photo, np.zeros_like(mask), 7, 1, 3)
    assert np.array_equal(one, other)
