from __future__ import annotations

import numpy as np
import pytest
from distill_support import made, settings, steady_torch  # noqa: F401

from components.distill.batches import augment, epoch_batches
from components.distill.cache import decoded
from components.synthesis import splices
from components.synthesis.splices import spliced


def view(seed, level, masked=False):
    draw = np.random.default_rng(seed)
    photo = draw.integers(level, level + 20, (64, 64, 3), dtype=np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[20:40, 10:30] = 255 * masked
    return photo, mask


@pytest.mark.parametrize("masked", [False, True])
def test_the_mask_is_where_the_donor_shows(monkeypatch, masked):
    monkeypatch.setattr(splices, "INSIDE", 0)
    shares = []
    for seed in range(30):
        photo, mask = spliced(view(1, 20), view(2, 200, masked), np.random.default_rng(seed))
        assert (photo[mask > 250] >= 195).all()
        assert (photo[mask == 0] < 45).all()
        shares.append((mask > 127).mean())
    assert min(shares) > 0
    assert 0.01 < np.mean(shares) < 0.3


def test_a_part_of_the_photo_itself_is_moved(monkeypatch):
    monkeypatch.setattr(splices, "INSIDE", 1)
    host = view(1, 20)
    for seed in range(10):
        photo, mask = spliced(host, view(2, 200), np.random.default_rng(seed))
        assert photo.max() < 60  # nothing of the donor
        assert (photo != host[0]).any()
        assert np.array_equal(photo[mask == 0], host[0][mask == 0])


def test_the_hosts_own_mask_stays_and_nothing_is_changed_in_place():
    host, donor = view(1, 20, masked=True), view(2, 200)
    kept = [part.copy() for part in (*host, *donor)]
    _, mask = spliced(host, donor, np.random.default_rng(3))
    assert (mask >= host[1]).all()
    assert all(np.array_equal(a, b) for a, b in zip(kept, (*host, *donor), strict=True))


def test_same_draw_same_splice_and_the_rest_is_as_without():
    photo, mask = view(1, 20, masked=True)
    first, again = (augment(photo, mask, 64, False, 7, 1, 5, view(2, 200)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    plain_mask = augment(photo, mask, 64, False, 7, 1, 5)[1]
    assert (first[1] >= plain_mask).all()
    assert (first[1] > plain_mask).any()


def test_both_kinds_of_photo_get_them(made, tmp_path, settings):
    examples = made.examples()
    data = decoded(examples, settings(), tmp_path / "arrays")
    parts = [
        part for epoch in range(1, 5) for part in epoch_batches(data, settings(splices=1.0), epoch)
    ]
    present = [bool(target.max() > 0.5) for part in parts for target in part.targets]
    assert np.mean(present) > 0.9
