"""The registry model through real MLflow: logged to a store, loaded in another process, served."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from PIL import Image

from components.core.images import decode_photo
from components.serving import pyfunc
from components.serving.predictor import Predictor

ROOT = Path(__file__).parents[3]

# Run where the project is not, with pickle switched off: what a serving machine does.
LOAD = """
import json, sys
import mlflow, pandas as pd
from mlflow.pyfunc.scoring_server import init
from fastapi.testclient import TestClient

model = mlflow.pyfunc.load_model(sys.argv[1])
images = json.load(open(sys.argv[2]))
rows = model.predict(pd.DataFrame({"image": images}))
import components
client = TestClient(init(model), raise_server_exceptions=False)
def ask(values):
    body = {"dataframe_split": {"columns": ["image"], "data": [[value] for value in values]}}
    answer = client.post("/invocations", json=body)
    return [answer.status_code, answer.json()]
result = {"rows": rows.to_dict("list"), "code": components.__file__, "good": ask(images[:1]),
          "bad": ask(["bm90IGEgcGhvdG8="]), "text": ask(["?!"])}
json.dump(result, open(sys.argv[3], "w"))
"""


def _base64(photo: np.ndarray, format: str = "PNG") -> str:
    buffer = BytesIO()
    Image.fromarray(photo).save(buffer, format=format)
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture(scope="module")
def logged(student_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, Path]:
    """Tracking address, model address and the folder the model lies in."""
    store = tmp_path_factory.mktemp("mlflow")
    address = f"sqlite:///{store}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        # MLflow writes the addresses it is told into the environment.
        patch.setenv("MLFLOW_TRACKING_URI", address)
        patch.setenv("MLFLOW_REGISTRY_URI", address)
        mlflow.set_tracking_uri(address)
        mlflow.set_registry_uri(address)
        experiment = mlflow.create_experiment("e", artifact_location=(store / "artifacts").as_uri())
        with mlflow.start_run(experiment_id=experiment):
            model = mlflow.pyfunc.log_model(
                name="model",
                python_model=pyfunc.__file__,
                artifacts={
                    name: str(student_folder / name) for name in ("student.onnx", "student.json")
                },
                signature=pyfunc.signature(),
                code_paths=[str(ROOT / "components")],
                pip_requirements=["mlflow"],
            )
    return address, model.model_uri, store / "artifacts"


@pytest.fixture(scope="module")
def elsewhere(logged, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, list[np.ndarray]]:
    """What another process, in another folder, makes of two photos and two bad requests."""
    address, model_uri, _ = logged
    folder = tmp_path_factory.mktemp("elsewhere")
    random = np.random.default_rng(4)
    photos = [random.integers(0, 255, size, dtype=np.uint8) for size in ((40, 61, 3), (9, 5, 3))]
    (folder / "images.json").write_text(json.dumps([_base64(photo) for photo in photos]))
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": address,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "PYTHONPATH": "",
    }
    command = [sys.executable, "-c", LOAD, model_uri, "images.json", "result.json"]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "result.json").read_text()), photos


def test_loads_elsewhere_with_its_own_code(elsewhere) -> None:
    result, _ = elsewhere
    assert not Path(result["code"]).is_relative_to(ROOT)


def test_answers_like_the_predictor(elsewhere, predictor: Predictor) -> None:
    result, photos = elsewhere
    rows = pd.DataFrame(result["rows"])
    assert list(rows.columns) == ["score", "area", "mask_png"]
    for found, (_, row) in zip(predictor.predict(photos), rows.iterrows(), strict=True):
        assert row["score"] == pytest.approx(found.score, abs=1e-6)
        assert row["area"] == pytest.approx(found.area, abs=1e-6)
        mask = np.asarray(Image.open(BytesIO(base64.b64decode(row["mask_png"]))))
        assert mask.shape == found.probability.shape
        assert np.abs(mask / 255 - found.probability).max() < 0.003


def test_served_answers_and_refusals(elsewhere) -> None:
    result, _ = elsewhere
    status, answer = result["good"]
    assert status == 200
    assert answer["predictions"][0]["score"] == pytest.approx(result["rows"]["score"][0])
    for kind in ("bad", "text"):
        status, answer = result[kind]
        assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
        assert "row 0" in answer["message"]


def test_nothing_is_pickled(logged) -> None:
    names = [path.name for path in logged[2].rglob("*") if path.is_file()]
    assert {"student.onnx", "student.json", "MLmodel"} <= set(names)
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".pth", ".bin"))]


def loaded(folder: Path) -> pyfunc.StudentModel:
    from mlflow.pyfunc import PythonModelContext

    files = {name: str(folder / name) for name in ("student.onnx", "student.json")}
    made = pyfunc.StudentModel()
    made.load_context(context=PythonModelContext(files, None))
    return made


@pytest.fixture
def model(student_folder: Path) -> pyfunc.StudentModel:
    return loaded(student_folder)


def test_a_model_that_answers_nan_is_an_internal_error(
    broken_folder: Path, photo: np.ndarray
) -> None:
    with pytest.raises(MlflowException, match="the model's answer is unusable") as caught:
        loaded(broken_folder).predict(None, pd.DataFrame({"image": [_base64(photo)]}))
    assert caught.value.error_code == "INTERNAL_ERROR"


def test_jpeg_is_decoded_like_a_file(model, predictor: Predictor, photo: np.ndarray) -> None:
    text = _base64(photo, "JPEG")
    rows = model.predict(None, pd.DataFrame({"image": [text]}))
    (found,) = predictor.predict([decode_photo(base64.b64decode(text), "p")])
    assert rows["score"][0] == found.score


def test_no_rows(model) -> None:
    rows = model.predict(None, pd.DataFrame({"image": []}))
    assert rows.empty
    assert list(rows.columns) == ["score", "area", "mask_png"]


BOMB = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"  # a GIF: not an accepted format


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pd.DataFrame({"picture": ["x"]}), "column 'image'"),
        (["x"], "column 'image'"),
        (pd.DataFrame({"image": [None]}), "row 0: image is neither"),
        (
            pd.DataFrame({"image": [b"abc"]}),
            "row 0: image is neither base64 text nor an array but bytes",
        ),
        (pd.DataFrame({"image": [[[[0, 0, 0], [0, 0]]]]}), "row 0: image is not an array"),
        (pd.DataFrame({"image": [[[0.5, 0.5]]]}), "row 0: image is not an array"),
        (pd.DataFrame({"image": [[[0, 256]]]}), "row 0: image is not an array"),
        (pd.DataFrame({"image": [[]]}), "row 0: image is not an array"),
        (pd.DataFrame({"image": ["%%%%"]}), "row 0: image is not base64 text"),
        (pd.DataFrame({"image": ["é"]}), "row 0: image is not base64 text"),
        (pd.DataFrame({"image": [""]}), "row 0: empty file"),
        (pd.DataFrame({"image": [BOMB]}), "row 0: not a JPEG"),
    ],
    ids=[
        "column",
        "list",
        "none",
        "bytes",
        "ragged",
        "float",
        "range",
        "nothing",
        "symbols",
        "letters",
        "empty",
        "gif",
    ],
)
def test_bad_input_is_an_invalid_parameter(model, table: object, message: str) -> None:
    with pytest.raises(MlflowException, match=message) as caught:
        model.predict(None, table)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


def test_limits(model, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    good, table = _base64(photo), pd.DataFrame({"image": [_base64(photo[:5]), _base64(photo)]})
    monkeypatch.setattr(pyfunc, "MAX_MEGAPIXELS", 0.001)
    with pytest.raises(MlflowException, match="row 1: 70x50 is larger than"):
        model.predict(None, table)
    monkeypatch.setattr(pyfunc, "_MAX_CHARACTERS", len(good) - 1)
    with pytest.raises(MlflowException, match="row 1: image is longer than"):
        model.predict(None, table)
