"""`mlflow models serve` for real: it answers, refuses wrong requests in one line, and lives on."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from model_server import alive, ask, rows, serving
from PIL import Image

from components.serving import pyfunc
from components.serving.predictor import Predictor

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def served(student_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server of the model."""
    folder = tmp_path_factory.mktemp("served")
    mlflow.pyfunc.save_model(
        path=str(folder / "model"),
        python_model=pyfunc.__file__,
        artifacts={n: str(student_folder / n) for n in ("student.onnx", "student.json")},
        signature=pyfunc.signature(),
        code_paths=[str(ROOT / "components")],
        pip_requirements=["mlflow"],
    )
    with serving(folder / "model", Path(sys.executable), folder) as address:
        yield address


def png(photo: np.ndarray) -> str:
    buffer = BytesIO()
    Image.fromarray(photo).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_base64_and_arrays_of_any_size_are_answered(served: str, predictor: Predictor) -> None:
    random = np.random.default_rng(4)
    photos = [random.integers(0, 255, size, dtype=np.uint8) for size in ((40, 61, 3), (9, 5, 3))]
    for encode in (png, np.ndarray.tolist):
        status, answer = ask(served, rows(*(encode(photo) for photo in photos)))
        assert status == 200
        for found, photo in zip(answer["predictions"], photos, strict=True):
            (expected,) = predictor.predict([photo])
            assert found["score"] == pytest.approx(expected.score, abs=1e-4)
            mask = np.asarray(Image.open(BytesIO(base64.b64decode(found["mask_png"]))))
            assert mask.shape == photo.shape[:2]
    grey = photos[0][..., 0]
    same = np.repeat(grey[..., None], 3, axis=2)
    _, answer = ask(served, rows(grey.tolist(), same.tolist()))
    assert answer["predictions"][0] == answer["predictions"][1]


HUGE = np.zeros((10_000, 10_000), dtype=np.uint8)  # 100 megapixels in a file of 100 kB


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (rows(base64.b64encode(b"not a photo").decode()), "row 0"),
        (rows("?!"), "row 0: image is not base64 text"),
        (rows(png(np.zeros((9, 9), np.uint8))[:-30]), "row 0"),
        (rows(7), "row 0: image is neither base64 text nor an array"),
        (rows(None), "image"),
        (rows({"photo": "x"}), "image"),
        (rows([["x", "y"]]), "row 0: image is not an array"),
        (rows([[[[1, 2, 3]]]]), "row 0: image is not an array"),
        (rows([[0.5, 1.5]]), "row 0: image is not an array"),
        (rows(png(np.zeros((9, 9), np.uint8))[:-1]), "row 0: image is not base64 text"),
        (rows(png(np.zeros((9, 9), np.uint8)), "?!"), "row 1: image is not base64 text"),
        (rows([[0, 999]]), "row 0: image is not an array"),
        (lambda: rows(png(HUGE)), "row 0: 10000x10000 is larger than"),
        ({"dataframe_split": {"columns": ["picture"], "data": [["x"]]}}, "image"),
        ({"dataframe_split": {"columns": ["image"]}}, ""),
        ({"something": 1}, ""),
        ([], ""),
        (b"{", ""),
        (b"\xff\xfe", ""),
    ],
    ids=["no photo", "text", "cut", "number", "null", "object", "texts", "deep", "fractions",
         "padding", "second row", "range", "huge", "column", "no data", "key", "list",
         "half json", "bytes"],
)  # fmt: skip
def test_wrong_requests_are_refused_and_the_server_lives_on(
    served: str, body: Any, said: str
) -> None:
    status, answer = ask(served, body() if callable(body) else body)
    assert 400 <= status < 500
    # MLflow puts the request before it; the last line says what is wrong.
    text = (answer.get("message") or json.dumps(answer)).strip().splitlines()[-1]
    assert said in text
    assert "Traceback" not in json.dumps(answer)
    assert alive(served)


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "image/png", "application/x-python-pickle", "text/csv",
     "application/vnd.apache.parquet"],
)  # fmt: skip
def test_other_kinds_of_requests_are_refused(served: str, kind: str) -> None:
    status, answer = ask(served, base64.b64decode(png(HUGE[:9, :9])), kind)
    assert 400 <= status < 500
    # A damaged Parquet table never reaches us: MLflow's own line about it holds a trace.
    assert "parquet" in kind or "Traceback" not in json.dumps(answer)
    assert alive(served)


def test_a_request_of_many_megabytes_is_refused_and_the_server_lives_on(served: str) -> None:
    status, answer = ask(served, rows("A" * 140_000_000))
    assert status == 400
    assert "is longer than" in json.dumps(answer)
    assert alive(served)
