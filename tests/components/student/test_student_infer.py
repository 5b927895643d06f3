from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from components.student.infer import BATCH, enlarge, probabilities, shrink


def photos():
    draw = np.random.default_rng(0)
    sizes = [(48, 80), (1, 200), (130, 1), (64, 64), (700, 500)]
    return [draw.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def test_native_size_in_range(make):
    given = [*photos(), np.zeros((40, 30, 3), np.uint8), np.full((20, 20, 3), 255, np.uint8)]
    maps = probabilities(make(), given)
    assert [m.shape for m in maps] == [p.shape[:2] for p in given]
    for found in maps:
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
        assert found.min() >= 0
        assert found.max() <= 1


def test_follows_the_stated_rule(make):
    student, photo = make(), photos()[0]
    small = np.asarray(Image.fromarray(photo).resize((64, 64), Image.Resampling.BILINEAR))
    with torch.no_grad():
        logits = student(torch.from_numpy(small.copy()).permute(2, 0, 1)[None] / 255)
    expected = Image.fromarray(logits.sigmoid()[0, 0].numpy()).resize((80, 48), Image.BILINEAR)
    np.testing.assert_allclose(probabilities(student, [photo])[0], expected, atol=2e-3)


def test_a_batch_is_its_photos_one_by_one(make):
    student, given = make(), photos() * 2
    assert len(given) > BATCH
    together = probabilities(student, given)
    for photo, found in zip(given, together, strict=True):
        np.testing.assert_allclose(probabilities(student, [photo])[0], found, atol=1e-5)


def test_nothing_in_nothing_out(make):
    assert probabilities(make(), []) == []


@pytest.mark.parametrize("shape", [(31, 77, 3), (31, 77)])
def test_shrink_is_antialiased_like_pillow(shape):
    image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR))
    found = shrink(image, 32)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_enlarge_keeps_a_plain_map_plain():
    found = enlarge(torch.full((16, 16), 0.25), 37, 1)
    np.testing.assert_allclose(found, np.full((37, 1), 0.25, np.float32), rtol=1e-6)
