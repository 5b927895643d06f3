"""Drawing: the photo stays visible, any shape works, nothing predicted changes nothing."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from components.evaluate.pictures import BOX, PREDICTED, data_uri, marked, overlay, thumbnail


def _photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


def test_no_prediction_leaves_the_photo() -> None:
    photo = _photo(40, 50)
    drawn = overlay(photo, np.full((40, 50), 0.5, dtype=np.float32))
    assert np.array_equal(drawn, photo)
    assert drawn is not photo


def test_region_is_outlined_and_seen_through() -> None:
    photo = _photo(100, 100)
    before = photo.copy()
    prob = np.zeros((100, 100), dtype=np.float32)
    prob[30:60, 40:80] = 0.9
    drawn = overlay(photo, prob)
    assert np.array_equal(photo, before)
    assert tuple(drawn[30, 60]) == PREDICTED
    assert np.array_equal(drawn[:25], photo[:25])
    inner = (slice(35, 55), slice(45, 75))
    correlation = np.corrcoef(drawn[inner].ravel(), photo[inner].ravel())[0, 1]
    assert correlation > 0.9
    assert (drawn[inner] != photo[inner]).any()


def test_boxes_are_half_open() -> None:
    photo = np.zeros((60, 60, 3), dtype=np.uint8)
    empty = np.zeros((60, 60), dtype=np.float32)
    drawn = overlay(photo, empty, boxes=np.array([[10, 20, 30, 40]]))
    rows, columns = np.nonzero((drawn == BOX).all(axis=2))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 39, 10, 29)


@pytest.mark.parametrize("shape", [(1, 1), (1, 90), (90, 1), (2, 3)])
def test_tiny_photos(shape: tuple[int, int]) -> None:
    drawn = overlay(_photo(*shape), np.ones(shape, dtype=np.float32))
    assert drawn.shape == (*shape, 3)
    assert thumbnail(drawn, 30).shape[0] >= 1


def test_sizes_must_match() -> None:
    with pytest.raises(ValueError, match="over a photo"):
        overlay(_photo(5, 5), np.zeros((5, 6), dtype=np.float32))


@pytest.mark.parametrize(("size", "expected"), [((400, 200), (100, 50)), ((30, 20), (30, 20))])
def test_thumbnail_fits_and_never_enlarges(size, expected) -> None:
    assert thumbnail(_photo(*size), 100).shape[:2] == expected


def test_data_uri_holds_the_picture() -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    kind, data = data_uri(grey).split(",")
    assert kind == "data:image/png;base64"
    assert np.array_equal(np.asarray(Image.open(BytesIO(base64.b64decode(data)))), grey)
    assert data_uri(_photo(8, 8)).startswith("data:image/jpeg;base64,")


def test_in_a_small_copy_a_single_pixel_stays_marked() -> None:
    prob = np.zeros((900, 1200), dtype=np.float32)
    prob[500, 700] = 0.9
    drawn = marked(np.zeros((900, 1200, 3), dtype=np.uint8), prob, 100)
    assert drawn.shape == (75, 100, 3)
    rows, columns = np.nonzero((drawn == PREDICTED).all(axis=2))
    assert rows.size
    assert abs(rows.mean() - 500 / 12) < 2
    assert abs(columns.mean() - 700 / 12) < 2
