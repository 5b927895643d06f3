"""MLflow for real: a version goes in with everything, and comes back the same."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import grimp
import mlflow
import numpy as np
import pytest
import yaml
from mlflow_server import Server, mlflow_server
from model_server import ask, rows, serving
from small_students import small_student

from components.core.errors import CheckError, InputError, UnavailableError
from components.core.files import sha256_file
from components.core.images import decode_photo
from components.distill.progress import Epoch
from components.export.onnx import save
from components.registry import curve, layout, promotion, signing
from components.registry.database import safe_name, scrub
from components.registry.downloads import fetch
from components.registry.package import REQUIRES, Package, example, leaves, numbers
from components.registry.runs import Start
from components.registry.tracking import Store
from components.registry.versions import Registry
from components.serving.predictor import Predictor
from components.student.config import CONFIG, GRAPH, WEIGHTS

ROOT = Path(__file__).parents[3]
CURVE = """epoch,train_loss,val_loss,val_f1,val_f1_best,val_f1_at_1_percent,val_false_alarm_area,lr
1,0.75,0.5,nan,nan,nan,0.5,0.002
2,0.5,0.25,0.125,0.5,0.0625,0.25,0.001
3,0.625,0.375,0.0,0.25,0.03125,0.125,0.0
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """A small random student and the reports of an evaluation."""
    root = tmp_path_factory.mktemp("package")
    save(small_student(5, backbone="tf_efficientnet_lite0"), root / "export")
    (root / "evaluate").mkdir()
    (root / "evaluate/report.html").write_text("<p>fine")
    (root / "history.csv").write_text(CURVE)
    return Package(
        start=Start("made"),
        folder=root / "export",
        files={
            "evaluation/made": root / "evaluate",
            layout.CURVE: root / "history.csv",
        },
        documents={"card.md": "# made\n\n## Limits\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n"},
        description="made for a test",
        metrics={"made": {"f1": {"value": 0.5, "low": None, "high": 0.6, "n": 9}, "photos": 12}},
        params={"distill": {"seed": 7, "alpha": "learned"}, "evaluate": {"datasets": ["made"]}},
        record={
            "dvc_lock": {"sha256": "l" * 64},
            "git": {"clean": True, "commit": "c" * 40},
            "datasets": {},
            "teacher": {"name": "grabcut", "sha256": "t" * 64},
            "environment": {"packages": {}},
            "validation": {"sha256": "v" * 64},
            "evaluation": {"made": {"sha256": "e" * 64}},
            "files": {"parity.json": "p" * 64},
        },
        tags={"f1": "0.5"},
    )


def predicted(uri: str, version: int) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", sys.path)  # MLflow leaves the version's code there
        return mlflow.pyfunc.load_model(f"models:/m/{version}").predict(example())


def test_a_version_comes_back_with_everything(
    addresses: dict[str, str],
    package: Package,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store()
    version = store.register("m", package)
    assert "Failed to validate" not in capfd.readouterr().err
    assert version.version == 1
    assert version.tags == {
        "f1": "0.5",
        "identity": package.identity,
        "record_sha256": package.record_sha256,
        "weights_sha256": package.hashes()["student.safetensors"],
        "signature_sha256": version.tags["signature_sha256"],
        "signing_key": version.tags["signing_key"],
        "provenance_sha256": version.tags["provenance_sha256"],
    }
    assert store.versions("m") == store.find("m", package.identity, package.record_sha256)
    assert store.find("m", "0" * 64, package.record_sha256) == []
    assert store.metrics(version.run_id) == {
        "made/f1": 0.5,
        "made/f1.high": 0.6,
        "made/f1.n": 9.0,
        "made/photos": 12.0,
        "train_loss": 0.625,
        "val_loss": 0.375,
        "val_f1": 0.0,
        "val_f1_best": 0.25,
        "val_f1_at_1_percent": 0.03125,
        "val_false_alarm_area": 0.125,
        "lr": 0.0,
    }
    run = mlflow.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {
        "distill.seed": "7",
        "distill.alpha": "learned",
        "evaluate.datasets": "['made']",
    }
    folder, signature = store.download("m", version.version, version.run_id, tmp_path)
    assert json.loads((folder / layout.RECORD).read_text()) == package.record
    for name in WEIGHTS, CONFIG, GRAPH:
        assert (folder / layout.ARTIFACTS / name).read_bytes() == (
            package.folder / name
        ).read_bytes()
    assert (folder / "evaluation/made/report.html").read_text() == "<p>fine"
    assert (folder / "card.md").read_text() == package.documents["card.md"]
    assert sha256_file(signature) == version.tags["signature_sha256"]
    key = signing.trusted(version.tags["signing_key"])
    assert signing.verify(folder, signature, key) == version.tags["signing_key"]


def test_the_training_curve_is_the_runs_metrics_by_epoch(
    addresses: dict[str, str], package: Package, tmp_path: Path
) -> None:
    store = Store()
    version = store.register("m", package)
    expected = {
        "train_loss": [(1, 0.75), (2, 0.5), (3, 0.625)],
        "val_loss": [(1, 0.5), (2, 0.25), (3, 0.375)],
        "val_f1": [(2, 0.125), (3, 0.0)],
        "val_f1_best": [(2, 0.5), (3, 0.25)],
        "val_f1_at_1_percent": [(2, 0.0625), (3, 0.03125)],
        "val_false_alarm_area": [(1, 0.5), (2, 0.25), (3, 0.125)],
        "lr": [(1, 0.002), (2, 0.001), (3, 0.0)],
    }
    assert {"epoch", *expected} == set(Epoch.__annotations__)
    client = mlflow.MlflowClient()
    for name, values in expected.items():
        history = client.get_metric_history(version.run_id, name)
        assert [(metric.step, metric.value) for metric in history] == values
    folder, signature = store.download("m", version.version, version.run_id, tmp_path)
    assert (folder / layout.CURVE).read_text() == CURVE
    (folder / layout.CURVE).write_text(CURVE.replace("0.75", "0.74"))
    with pytest.raises(CheckError, match=r"history\.csv"):
        signing.verify(folder, signature, signing.trusted(version.tags["signing_key"]))


@pytest.mark.parametrize(
    "text", [b"\xff\xfe", b"", b"train_loss\n0.5\n", CURVE[:-8].encode(), b"epoch\n1\n"]
)
def test_what_is_no_training_curve_is_named(text: bytes) -> None:
    with pytest.raises(InputError, match=r"made/history\.csv: not a training curve"):
        curve.points(text, "made/history.csv")


def test_the_versions_page_shows_summary_links_and_card(
    addresses: dict[str, str], package: Package
) -> None:
    version = Store().register("m", package)
    said = mlflow.MlflowClient().get_model_version("m", "1").description
    assert said.startswith("made for a test\n\n[Metrics](#/experiments/")
    assert "## Limits\n\n| a&emsp; | b |\n| --- | --- |\n| 1&emsp; | 2 |" in said
    (model,) = mlflow.get_run(version.run_id).outputs.model_outputs
    logged = mlflow.get_logged_model(model.model_id)
    assert logged.params["distill.seed"] == "7"
    assert logged.tags["mlflow.note.content"] == "made for a test"


def test_a_long_card_is_cut_between_sections(package: Package) -> None:
    card = f"# m\n\n## First\n\nshort\n\n## Second\n\n{'x' * 5000}\n"
    said = replace(package, documents={"card.md": card}).page("#/page")
    assert said.endswith("## First\n\nshort")
    assert "Second" not in said


def test_the_served_model_answers_as_the_student_does_and_holds_no_pickle(
    addresses: dict[str, str], package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store()
    version = store.register("m", package)
    # With pickle refused altogether, the model must load all the same.
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    found = predicted(addresses["MLFLOW_TRACKING_URI"], version.version)
    request = base64.b64decode(example()["image"][0])
    (expected,) = Predictor(package.folder).predict([decode_photo(request, "x", 1)])
    assert found["score"][0] == pytest.approx(expected.score, abs=1e-6)
    mask = decode_photo(base64.b64decode(found["mask_png"][0]), "mask", 1)[..., 0]
    np.testing.assert_allclose(mask / 255, expected.probability, atol=0.5 / 255 + 1e-6)
    model = next((tmp_path / "state/mlflow/artifacts").rglob("MLmodel"))
    assert [path for path in model.parent.rglob("*") if "pkl" in path.name] == []
    described = yaml.safe_load(model.read_text())
    assert described["signature"]["inputs"]
    assert not list(model.parent.rglob("__pycache__"))


def test_requirements_are_what_the_serving_code_imports() -> None:
    graph = grimp.build_graph("components", include_external_packages=True, cache_dir=None)
    owners = packages_distributions()

    def normal(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    upstream = graph.find_upstream_modules("components.serving.pyfunc")
    imported = {normal(owner) for module in upstream for owner in owners.get(module, [])}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    entries = [*project["dependencies"], *project["optional-dependencies"]["pipeline"]]
    entries += project["optional-dependencies"]["score"]
    ours = {normal(re.split(r"[<>=~!\[ ]", entry)[0]) for entry in entries}
    assert set(REQUIRES) == imported & ours


@pytest.mark.timeout(3600)
def test_a_version_is_served_with_its_own_requirements_alone(
    addresses: dict[str, str], package: Package, tmp_path: Path, campaigns: bool
) -> None:
    if not campaigns:
        pytest.skip("minutes of pip")
    store = Store()
    version = store.register("m", package)
    folder, _ = store.download("m", version.version, version.run_id, tmp_path)
    python = tmp_path / "env/bin/python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    wanted = ["--requirement", folder / "requirements.txt"]
    wanted += ["--constraint", ROOT / "constraints.txt"]
    install = ["install", "--quiet", "--no-compile"]
    subprocess.run([python, "-m", "pip", *install, *wanted], check=True)
    listed = subprocess.check_output([python, "-m", "pip", "list"], text=True).lower()
    assert not {"torch", "timm", "dvc", "prefect", "opencv-python-headless"} & set(listed.split())
    photo = example()["image"][0]
    with serving(folder, python, tmp_path) as address:
        status, answer = ask(address, rows(photo))
    assert status == 200
    pixels = decode_photo(base64.b64decode(photo), "x", 1)
    (expected,) = Predictor(package.folder).predict([pixels])
    assert answer["predictions"][0]["score"] == pytest.approx(expected.score, abs=1e-6)


def test_numbers_and_leaves() -> None:
    block = {"a b": {"f1": {"value": float("nan"), "low": 0.1}}, "x": True, "groups": {"s/f": 1}}
    assert dict(numbers(block)) == {"a b/f1.low": 0.1, "x": 1.0, "groups/s/f": 1.0}
    assert dict(numbers({"kind (ü)": {"f1": 1}})) == {"kind _ü_/f1": 1.0}
    assert dict(leaves({"a": {"b": [1], "c": {"d": None}}})) == {"a.b": "[1]", "a.c.d": "None"}


def test_a_missing_file_is_named(package: Package, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"student\.safetensors: no such file"):
        replace(package, folder=tmp_path).hashes()


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        (
            "http://127.0.0.1:9",
            "http://127.0.0.1:9: no MLflow server answers there; your shell sets",
        ),
        ("http://user:hunter2@127.0.0.1:9", "127.0.0.1:9: no MLflow server answers there"),
        ("postgresql://u:hunter2@127.0.0.1:9/db", "refused"),
        ("sqlite:////proc/none/mlflow.db", "/proc/none"),
        ("./mlruns", "not an MLflow store that works here"),
        ("file:///tmp/mlruns", "not an MLflow store that works here"),
        ("databricks", "not an MLflow store that works here"),
    ],
)
def test_an_unreachable_store_is_one_line_without_secrets(uri: str, said: str) -> None:
    away = uri.startswith(("http", "postgresql"))
    with pytest.raises(UnavailableError if away else InputError) as caught:
        Store(uri)
    assert said in caught.value.line()
    assert "hunter2" not in caught.value.line()
    assert caught.value.__cause__ is None


def test_an_unreachable_server_prints_nothing_but_its_line() -> None:
    """In a process of its own: MLflow's retries, if they were on, would take minutes."""
    code = (
        "from components.core.errors import exit_on_error\n"
        "from components.registry.versions import Registry\n"
        "with exit_on_error():\n    Registry.open('m')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        env={**os.environ, "MLFLOW_TRACKING_URI": "http://user:hunter2@127.0.0.1:9"},
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "hunter2" not in done.stderr + done.stdout


@pytest.mark.parametrize("name", ["", "it's", "../m", "-m"])
def test_a_wrong_model_name_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="not a model name"):
        Registry.open(name)


def test_safe_names_hide_secrets() -> None:
    assert "hunter2" not in safe_name("http://user:hunter2@host:5000")
    assert "hunter2" not in safe_name("postgresql://host/db?password=hunter2")
    assert safe_name("hunter2") == "(unreadable URL)"


def test_a_drivers_message_loses_its_secrets() -> None:
    url = "postgresql://u:hunt%2Fer2@host/db?password=other9"
    said = scrub("bad 'hunt/er2', 'hunt%2Fer2'\nand other9 for user u", url)
    assert said == "bad '***', '***' and *** for user u"
    assert "hunter2" not in scrub("hunter2", "hunter2")


@pytest.fixture
def server(tmp_path: Path, empty_store: Path) -> Iterator[Server]:
    """A real `mlflow server` on a free port."""
    with mlflow_server(tmp_path, empty_store) as made:
        yield made


def test_a_real_server_keeps_versions_and_its_loss_is_told(
    server: Server,
    package: Package,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    monkeypatch.setenv("IML_STATE", str(tmp_path / "client"))
    registry = Registry.open("m")
    version = promotion.register(registry, package, clean=True, actor="ann")
    assert capfd.readouterr().out == ""  # stdout belongs to the command's own answer
    registry.store.set_alias("m", version)
    assert registry.store.alias("m") == version
    folder = fetch(f"m/{version}").folder
    assert (folder / WEIGHTS).read_bytes() == (package.folder / WEIGHTS).read_bytes()
    with pytest.raises(CheckError, match="version 7 of m is missing from MLflow"):
        registry.store.set_alias("m", 7)
    server.kill()
    with pytest.raises(UnavailableError, match="no MLflow server answers there; your shell sets"):
        Registry.open("m")
