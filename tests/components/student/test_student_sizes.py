"""Sizes without torch: byte for byte what torch's kernels make of photos."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from components.student import infer, sizes


@pytest.mark.parametrize("size", [64, 192])
def test_photos_shrink_as_in_torch_to_the_byte(size: int) -> None:
    random = np.random.default_rng(size)
    shapes = [(1, 1), (1, 500), (size, size), (size, 300), (size + 1, size - 1)]
    shapes += [(2000, 3), (3, 4100)]
    shapes += [tuple(random.integers(1, 700, 2)) for _ in range(40)]
    for height, width in shapes:
        photo = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        assert np.array_equal(sizes.shrink(photo, size), infer.shrink(photo, size)), photo.shape


def test_black_and_white_stay_within_range() -> None:
    photo = np.zeros((301, 407, 3), np.uint8)
    photo[::2, 1::2] = 255
    assert np.array_equal(sizes.shrink(photo, 96), infer.shrink(photo, 96))


def test_maps_enlarge_as_in_torch() -> None:
    random = np.random.default_rng(5)
    for _ in range(40):
        height, width = (int(side) for side in random.integers(1, 600, 2))
        square = random.random((96, 96), dtype=np.float32)
        if width == 1:  # where torch repeats the first row instead
            continue
        expected = infer.enlarge(torch.from_numpy(square.copy()), height, width)
        found = sizes.enlarge(square, height, width)
        assert found.shape == expected.shape
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=2e-5)
