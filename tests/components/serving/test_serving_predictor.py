"""The predictor on photos of every shape, and on files it must refuse."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from small_students import small_student

from components.core.errors import InputError
from components.core.files import sha256_file
from components.core.metrics import image_score
from components.export.onnx import save
from components.serving.predictor import Prediction, Predictor
from components.student import infer


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (200, 1), (33, 57), (300, 40)])
def test_answers_at_native_size(predictor: Predictor, shape: tuple[int, int]) -> None:
    random = np.random.default_rng(1)
    (found,) = predictor.predict([random.integers(0, 255, (*shape, 3), dtype=np.uint8)])
    assert found.probability.shape == shape
    assert found.probability.dtype == np.float32
    assert 0 <= found.probability.min() <= found.probability.max() <= 1
    assert found.score == image_score(found.probability)
    assert found.area == pytest.approx((found.probability > 0.5).mean())


def test_answers_depend_on_the_photo_and_keep_order(predictor: Predictor) -> None:
    photos = [np.full((20, 30 + n, 3), 25 * n, dtype=np.uint8) for n in range(10)]
    found = predictor.predict(photos)
    assert [item.probability.shape for item in found] == [(20, 30 + n) for n in range(10)]
    assert len({item.score for item in found}) == 10
    alone = predictor.predict(photos[7:8])[0]
    assert np.allclose(alone.probability, found[7].probability, atol=1e-5)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_plain_photos_give_finite_answers(predictor: Predictor, value: int) -> None:
    (found,) = predictor.predict([np.full((40, 40, 3), value, dtype=np.uint8)])
    assert np.isfinite(found.probability).all()


def test_grey_is_rounded_probability() -> None:
    probability = np.array([[0, 0.5, 1, 0.25]], dtype=np.float32)
    assert Prediction(probability, 0.0, 0.0).grey().tolist() == [[0, 128, 255, 64]]


def test_no_photos(predictor: Predictor) -> None:
    assert predictor.predict([]) == []


def test_knows_its_weights(predictor: Predictor, student_folder: Path) -> None:
    assert predictor.weights_sha256 == sha256_file(student_folder / "student.safetensors")


def test_a_changed_graph_is_refused(student_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(student_folder, tmp_path / "s")
    weights = tmp_path / "s" / "student.onnx"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(InputError, match=r"student\.onnx.*changed"):
        Predictor(tmp_path / "s")
    with pytest.raises(InputError, match="no such file"):
        Predictor(tmp_path / "nowhere")


def test_an_answer_that_is_nan_is_one_clear_line(broken_folder: Path, photo: np.ndarray) -> None:
    broken = Predictor(broken_folder)
    assert np.isnan(broken.probabilities([photo])[0]).any()
    with pytest.raises(InputError) as caught:
        broken.predict([photo])
    assert caught.value.line() == (
        f"{broken_folder}/student.onnx: the model's answer is unusable "
        "(probabilities range over nan..nan, not within 0..1); use another model"
    )


@pytest.mark.parametrize("view", ["resize", "tiles"])
def test_answers_are_those_of_torch(view: str, tmp_path: Path, campaigns: bool) -> None:
    student = small_student(view=view).eval()
    save(student, tmp_path)
    predictor, random = Predictor(tmp_path), np.random.default_rng(8)
    for _ in range(500 if campaigns else 12):
        height, width = random.integers(1, 400, 2)
        if width == 1:  # where torch repeats the first row of the answer
            continue
        photo = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        (found,) = predictor.probabilities([photo])
        (expected,) = infer.probabilities(student, [photo])
        np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=f"{photo.shape}")
