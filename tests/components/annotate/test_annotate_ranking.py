"""What to draw next: every order, with a student of known answers and with a real one."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_students import small_student

from components.annotate.ranking import ORDERS, Candidate, candidates, rank
from components.core.errors import InputError
from components.core.images import PhotoError, save_photo
from components.core.metrics import image_score, predicted_area
from components.export.onnx import save
from components.serving.predictor import Prediction, Predictor
from components.serving.sources import open_source


class Known(Predictor):
    """Answers with a photo's first channel as the probability."""

    def __init__(self) -> None: ...

    def predict(self, photos: Sequence[np.ndarray]) -> list[Prediction]:
        maps = [photo[:, :, 0].astype(np.float32) / 255 for photo in photos]
        return [Prediction(p, image_score(p), predicted_area(p)) for p in maps]


def _png(photo: np.ndarray) -> bytes:
    data = BytesIO()
    Image.fromarray(photo).save(data, "PNG")
    return data.getvalue()


def _photo(name: str, level: int, tint: int = 0) -> Candidate:
    """A photo whose probability is `level`, with one pixel of its own so that it is not plain."""
    pixels = np.full((80, 96, 3), (level, tint, tint), np.uint8)
    pixels[-1, -1] = 7
    data = _png(pixels)
    return Candidate(name, lambda: data)


def _broken(name: str) -> Candidate:
    def read() -> bytes:
        raise PhotoError("is gone", name)

    return Candidate(name, read)


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = tmp_path_factory.mktemp("student")
    save(small_student(), folder)
    return Predictor(folder, threads=1)


def _names(ranked) -> list[str]:
    return [row.name for row in ranked]


def test_gain_takes_what_the_student_is_unsure_about_first():
    photos = [_photo("sure", 250), _photo("unsure", 128), _photo("fairly", 200)]
    ranked = rank(photos, "gain", Known(), 0)
    assert _names(ranked) == ["unsure", "fairly", "sure"]
    assert ranked[0].value == pytest.approx(1.0, abs=0.01)
    assert "unsure about 100% of it" in ranked[0].reason


def test_gain_does_not_draw_variants_of_one_picture_in_a_row():
    alike = [_photo(f"alike{n}", 128 + n) for n in range(3)]
    ranked = rank([*alike, _photo("other", 160, tint=255)], "gain", Known(), 0)
    assert _names(ranked)[:2] == ["alike0", "other"]
    values = [row.value for row in ranked]
    assert values == sorted(values, reverse=True)
    assert "unlike the photos before it" in ranked[1].reason
    assert "somewhat like the photos before it" in ranked[2].reason


def test_score_takes_the_most_suspicious_first():
    photos = [_photo("low", 20), _photo("high", 240), _photo("middle", 130)]
    ranked = rank(photos, "score", Known(), 0)
    assert _names(ranked) == ["high", "middle", "low"]
    assert ranked[0].value == pytest.approx(240 / 255)
    assert ranked[0].reason == "100.0% of it looks manipulated"


def test_random_depends_on_the_seed_alone_and_reads_no_photo():
    photos = [_broken(f"p{n:02}") for n in range(30)]
    first = rank(photos, "random", None, 3)
    assert first == rank(photos[::-1], "random", None, 3)
    assert _names(first) != _names(rank(photos, "random", None, 4))
    assert sorted(_names(first)) == [photo.name for photo in photos]
    values = [row.value for row in first]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("order", ["gain", "score"])
def test_what_cannot_be_judged_comes_last_with_its_reason(order):
    small = Candidate("a-small", lambda: _png(np.eye(9, dtype=np.uint8)[..., None].repeat(3, 2)))
    photos = [_broken("a-gone"), small, _photo("b", 1), _photo("c", 128)]
    ranked = rank(photos, order, Known(), 0)
    assert _names(ranked) == ["c", "b", "a-small", "a-gone"]
    assert [(row.value, row.reason) for row in ranked[2:]] == [
        (0.0, "too small (9x9)"),
        (0.0, "is gone"),
    ]


@pytest.mark.parametrize("order", ["gain", "score"])
def test_a_real_student_gives_the_same_order_whatever_the_photos_come_in(order, student, tmp_path):
    for number in range(7):
        random = np.random.default_rng(number)
        pixels = random.integers(0, 255, (70 + 9 * number, 80, 3), dtype=np.uint8)
        save_photo(tmp_path / "in" / f"ü {number}.png", pixels)
    photos = candidates(open_source(str(tmp_path / "in"), Path("out")))
    told = []
    first = rank(photos, order, student, 0, lambda done, total: told.append((done, total)))
    assert first == rank(photos[::-1], order, student, 0)
    assert sorted(_names(first)) == [f"ü {number}.png" for number in range(7)]
    assert told == [(done, 7) for done in range(1, 8)]


@pytest.mark.parametrize("order", ["gain", "random", "score"])
def test_no_photos_make_an_empty_order(order):
    assert rank([], order, Known(), 0) == []


def test_what_is_missing_is_said():
    with pytest.raises(InputError, match="unknown order 'best'"):
        rank([], "best", None, 0)
    for order in ("gain", "score"):
        with pytest.raises(InputError, match=f"'{order}' needs a model"):
            rank([], order, None, 0)
    with pytest.raises(InputError, match="'doubt' needs a labelled data set"):
        rank([], "doubt", None, 0)
    assert ORDERS == ("gain", "random", "score", "doubt")
