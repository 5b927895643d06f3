"""A version that today's code cannot load, answered by the code in its folder."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import mlflow
import numpy as np
import other_time
import pytest
import signed_photos

from components.core.errors import InputError
from components.core.files import sha256_file
from components.serving import own_code, pyfunc
from components.serving.inference import Limits, scored
from components.serving.origin import Origin, Student
from components.serving.predictor import Predictor
from components.serving.report import Model, case_report
from components.student.config import CONFIG, GRAPH, WEIGHTS

FILES = (WEIGHTS, CONFIG, GRAPH)


@pytest.fixture(scope="module")
def version(student_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a version of that time, as MLflow keeps it."""
    folder = tmp_path_factory.mktemp("then")
    shutil.copytree(student_folder, folder, dirs_exist_ok=True)
    other_time.rename_key(folder / CONFIG)
    mlflow.pyfunc.save_model(
        path=folder / "version",
        python_model=pyfunc.__file__,
        code_paths=[str(other_time.code(folder / "components"))],
        artifacts={name: str(folder / name) for name in FILES},
        signature=pyfunc.signature(),
        pip_requirements=["mlflow"],
    )
    for compiled in sorted(folder.rglob("__pycache__")):
        shutil.rmtree(compiled)
    return folder / "version"


def _hashes(folder: Path) -> dict[Path, str]:
    return {path: sha256_file(path) for path in folder.rglob("*") if path.is_file()}


def test_it_answers_as_it_did(
    version: Path, predictor: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    before, student = _hashes(version), Student(version / "artifacts", "m", 3)
    with pytest.raises(InputError, match=other_time.TODAY):
        Predictor(student.folder)
    with caplog.at_level(logging.WARNING, logger="iml"):
        own = own_code.load(student)
    assert "m/3 is served by the code that it carries" in caplog.text
    assert own.weights_sha256 == predictor.weights_sha256
    random = np.random.default_rng(4)
    photos = [random.integers(0, 255, size, dtype=np.uint8) for size in ((40, 61, 3), (9, 5, 3))]
    for found, then in zip(own.predict(photos), predictor.predict(photos), strict=True):
        np.testing.assert_allclose(found.probability, then.probability, atol=1e-6)
        assert (found.score, found.area) == pytest.approx((then.score, then.area), abs=1e-6)
    assert _hashes(version) == before  # it is verified again the next time


def test_it_has_a_report(version: Path) -> None:
    student, data = Student(version / "artifacts", "m", 3), signed_photos.photo((70, 90))
    own = own_code.load(student)
    (one,) = scored(["photo"], lambda _: data, own, Limits(), abstain=False)
    model, origin = Model.of(student), Origin.of(student, own.weights_sha256)
    html = case_report("p.jpg", data, one, own, model, origin, {})
    assert one.found is not None
    assert f"The photo's score is {one.found.score:.4f}" in html
    assert html.count("saved as JPEG, quality") == 4
    assert "Small edits can be missed." in html  # its size is not known by today's name


def test_the_code_of_a_plain_folder_is_not_run(version: Path) -> None:
    with pytest.raises(InputError, match=other_time.TODAY):
        own_code.load(Student(version / "artifacts", str(version), None))


def test_code_that_fails_is_one_line(version: Path, tmp_path: Path) -> None:
    shutil.copytree(version, tmp_path / "version")
    (tmp_path / "version/code/components/serving/predictor.py").write_text("import no_such_package")
    with pytest.raises(InputError, match=r"carries fails \(.*no_such_package.*requirements\.txt"):
        own_code.load(Student(tmp_path / "version/artifacts", "m", 3))
