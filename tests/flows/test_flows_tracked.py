"""The MLflow run of a retraining: when it begins, what it says, how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from components.core import params as parameters
from components.core.errors import CheckError, UnavailableError
from components.core.params import Params
from flows import tracked

ROOT = Path(__file__).parents[2]
DIGEST = "c02e13fe6654b0fcc3062ed245732420.dir"


def git(*arguments: str) -> str:
    who = ("-c", "user.name=T", "-c", "user.email=t@example.org")
    command = ["git", *who, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One MLflow store for this module: making one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def params(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A project's folder with two data sets, of which DVC tracks one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("IML_ACTOR", "ann")
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["prepare"]["datasets"], values["evaluate"]["datasets"] = ["one"], ["one", "two"]
    Path("params.yaml").write_text(yaml.safe_dump(values))
    Path("data").mkdir()
    out = {"md5": DIGEST, "size": 9, "nfiles": 3, "hash": "md5", "path": "one"}
    Path("data/one.dvc").write_text(yaml.safe_dump({"outs": [out]}))
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "-m", "start")
    return parameters.load()


def status(run: tracked.Run) -> str:
    assert run.id
    return MlflowClient().get_run(run.id).info.status


def test_a_run_says_what_it_is(params: Params) -> None:
    start = tracked.start(params, "iml run")
    assert start.name == f"{params.distill.student.backbone} on one"
    assert start.tags == {
        "mlflow.user": "ann",
        "mlflow.source.name": "iml run",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": git("rev-parse", "HEAD"),
        "mlflow.source.git.dirty": "false",
    }
    found = [(e.name, e.digest, e.context, e.files, e.size) for e in start.inputs]
    assert found == [
        ("one", DIGEST, "training", 3, 9),
        ("one/test", DIGEST, "evaluation", 3, 9),
    ]


@pytest.mark.parametrize(
    ("error", "expected"),
    [(None, "FINISHED"), (CheckError("no"), "FAILED"), (KeyboardInterrupt(), "KILLED")],
)
def test_a_run_ends_as_what_it_was(
    params: Params, error: BaseException | None, expected: str
) -> None:
    made: list[tracked.Run] = []

    def work() -> None:
        with tracked.run(params, "iml run") as run:
            made.append(run)
            assert run.begin() == run.id
            assert status(run) == "RUNNING"
            with run.stages():
                assert os.environ["MLFLOW_RUN_ID"] == run.id
                run.seconds("evaluate@one", 2.5)
                if error:
                    raise error

    if error:
        with pytest.raises(type(error)):
            work()
    else:
        work()
    assert status(made[0]) == expected
    metrics = MlflowClient().get_run(made[0].id or "").data.metrics
    assert metrics["stage_seconds.evaluate.one"] == 2.5


def test_no_training_begins_for_a_store_that_does_not_answer(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with (
        pytest.raises(UnavailableError, match="no MLflow server answers there; your shell sets"),
        tracked.run(params, "iml run") as run,
    ):
        run.begin()


def test_a_run_with_nothing_to_do_imports_and_makes_nothing(params: Params) -> None:
    code = (
        "import sys; from components.core import params; from flows import artifacts, tracked\n"
        "with tracked.run(params.load(), 'iml run') as run, run.stages():\n"
        "    run.seconds('prepare', 1.0); assert run.id is None\n"
        "artifacts.show({}, [])\n"
        "print([n for n in ('mlflow', 'prefect', 'sqlalchemy') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
