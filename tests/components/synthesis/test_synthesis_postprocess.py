"""What authentic and manipulated photos share at the end."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image

from components.core.seeds import generator
from components.synthesis import postprocess

Make = Callable[..., np.ndarray]


def _tables(data: bytes) -> dict[int, list[int]]:
    with Image.open(BytesIO(data)) as image:
        return {key: list(table) for key, table in image.quantization.items()}


def test_the_draws_depend_on_the_stream_alone(make_photo: Make) -> None:
    """Two different photos, one stream: the same JPEG tables, so the tables tell nothing."""
    seen = set()
    for seed in range(10):
        first, second = (
            _tables(postprocess.published(make_photo(photo), generator(seed, "publish")))
            for photo in (1, 2)
        )
        assert first == second
        seen.add(str(first))
    assert len(seen) > 4


def test_size_is_kept_and_the_photo_stays_itself(make_photo: Make) -> None:
    photo = make_photo(4, height=101, width=151)
    for seed in range(12):
        with Image.open(BytesIO(postprocess.published(photo, generator(seed, "size")))) as image:
            assert image.format == "JPEG"
            result = np.asarray(image)
        assert result.shape == photo.shape
        assert np.abs(result.astype(int) - photo).mean() < 10


def test_a_recorded_photo_has_been_a_jpeg_once(make_photo: Make) -> None:
    photo = make_photo(5)
    recorded = postprocess.recorded(photo, generator(1, "record"))
    assert recorded.shape == photo.shape
    assert 0 < np.abs(recorded.astype(int) - photo).mean() < 8
