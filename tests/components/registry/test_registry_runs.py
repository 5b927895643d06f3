"""An MLflow run from its beginning to its version, against real stores."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.distill.progress import Epoch
from components.registry import layout
from components.registry.package import Package
from components.registry.promotion import register
from components.registry.runs import Input, Live, Start
from components.registry.tracking import Store
from components.registry.versions import Registry

Make = Callable[..., Package]
KIND = "mlflow.experimentKind"
DIGEST = "c02e13fe6654b0fcc3062ed245732420.dir"
START = Start(
    "a training",
    {"mlflow.user": "ann", "mlflow.source.name": "iml run"},
    [
        Input("demo", DIGEST, "data/demo", "training", 402, 5940087),
        Input("demo/test", DIGEST, "data/demo", "evaluation", 402, 5940087),
    ],
)


@pytest.fixture
def client(registry: Registry) -> MlflowClient:
    return registry.store._client


def test_a_run_says_who_what_and_on_which_data(registry: Registry, client: MlflowClient) -> None:
    live = registry.store.begin("m", START)
    run = client.get_run(live.run_id)
    assert (run.info.status, run.info.run_name, run.info.user_id) == (
        "RUNNING",
        "a training",
        "ann",
    )
    assert run.data.tags["mlflow.source.name"] == "iml run"
    found = [
        (
            entry.dataset.name,
            entry.dataset.digest,
            json.loads(entry.dataset.source)["uri"],
            json.loads(entry.dataset.profile)["files"],
            {tag.key: tag.value for tag in entry.tags},
        )
        for entry in run.inputs.dataset_inputs
    ]
    assert sorted(found, key=lambda row: row[0]) == [
        ("demo", DIGEST, "data/demo", 402, {"mlflow.data.context": "training"}),
        ("demo/test", DIGEST, "data/demo", 402, {"mlflow.data.context": "evaluation"}),
    ]


def test_experiments_are_of_model_training(registry: Registry, client: MlflowClient) -> None:
    old = client.create_experiment("old")
    chosen = client.create_experiment("chosen", tags={KIND: "genai_development"})
    for name in ("old", "chosen", "new"):
        registry.store.begin(name, START)
    kinds = [client.get_experiment(number).tags[KIND] for number in (old, chosen)]
    assert kinds == ["custom_model_development", "genai_development"]
    new = client.get_experiment_by_name("new")
    assert new.tags[KIND] == "custom_model_development"


def test_runs_that_a_killed_process_left_here_are_ended(
    registry: Registry,
    client: MlflowClient,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = registry.store.begin("m", START).run_id
    with monkeypatch.context() as patch:
        patch.setenv("IML_STATE", str(tmp_path_factory.mktemp("elsewhere")))
        other = registry.store.begin("m", START).run_id
    now = registry.store.begin("m", START).run_id
    statuses = [client.get_run(number).info.status for number in (left, other, now)]
    assert statuses == ["KILLED", "RUNNING", "RUNNING"]


@pytest.fixture
def package(make_package: Make, tmp_path: Path) -> Package:
    """With a training curve of two epochs."""
    names = [name for name in Epoch.__annotations__ if name != "epoch"]
    values = ",".join("0.5" for _ in names)
    text = f"epoch,{','.join(names)}\n1,{values}\n2,{values}\n"
    (tmp_path / "history.csv").write_text(text)
    return replace(make_package(), files={layout.CURVE: tmp_path / "history.csv"})


def test_the_run_that_trained_a_version_is_the_versions(
    registry: Registry, client: MlflowClient, package: Package
) -> None:
    live = registry.store.begin("m", START)
    client.log_metric(live.run_id, "train_loss", 0.5, timestamp=7, step=1)
    live.number("stage_seconds.distill", 3.5)
    version = register(registry, package, clean=True, actor="ann", run_id=live.run_id)
    assert client.get_model_version("m", str(version)).run_id == live.run_id
    run = client.get_run(live.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["identity"] == package.identity
    assert run.data.tags["mlflow.source.git.commit"] == "c" * 40
    assert run.data.metrics["stage_seconds.distill"] == 3.5
    # What the training logged stays; what it could not is added.
    points = [
        (m.step, m.timestamp == 7) for m in client.get_metric_history(live.run_id, "train_loss")
    ]
    assert points == [(1, True), (2, False)]
    assert [m.step for m in client.get_metric_history(live.run_id, "lr")] == [1, 2]
    live.end("FAILED")  # what comes after cannot spoil the run of a version
    assert client.get_run(live.run_id).info.status == "FINISHED"


def test_a_run_gets_one_version_and_no_more(
    registry: Registry, client: MlflowClient, make_package: Make
) -> None:
    live = registry.store.begin("m", START)
    first = registry.store.register("m", make_package("a"), live.run_id)
    second = registry.store.register("m", make_package("b"), live.run_id)
    assert first.run_id == live.run_id
    assert second.run_id != live.run_id
    assert client.get_run(live.run_id).data.tags["identity"] == make_package("a").identity


def test_an_upload_that_failed_is_made_again_in_the_same_run(
    registry: Registry, client: MlflowClient, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = registry.store.begin("m", START)
    with monkeypatch.context() as patch:
        patch.setattr(Package, "write", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            registry.store.register("m", package, live.run_id)
    version = registry.store.register("m", package, live.run_id)
    assert version.run_id == live.run_id
    experiment = client.get_run(live.run_id).info.experiment_id
    (model,) = client.search_logged_models([experiment])
    assert model.status == "READY"
    assert len(client.get_metric_history(live.run_id, "lr")) == 2


CHILD = "import os; print(os.environ['MLFLOW_RUN_ID'], os.environ['MLFLOW_TRACKING_URI'])"


def test_processes_started_in_a_run_know_it_and_the_machine_is_watched(
    registry: Registry, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://before")
    live = registry.store.begin("m", START)
    with live.watched(machine=True):
        told = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True)
        limit = time.monotonic() + 60
        while not (
            seen := {n for n in client.get_run(live.run_id).data.metrics if n.startswith("system/")}
        ):
            assert time.monotonic() < limit
            time.sleep(0.1)
    assert told.stdout.split() == [live.run_id, registry.store._uri]
    assert "system/cpu_utilization_percentage" in seen
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://before"
    assert "MLFLOW_RUN_ID" not in os.environ
    # People who look at the version ask for what the student is worth.
    assert registry.store.metrics(live.run_id) == {}


def test_a_server_that_goes_away_is_one_warning_and_costs_seconds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    live = Live("http://user:hunter2@127.0.0.1:9", "1", "0" * 32)
    assert (
        live.page
        == f"http://127.0.0.1:9/#/experiments/1/runs/{'0' * 32}?workflowType=machine_learning"
    )
    began = time.monotonic()
    with caplog.at_level(logging.WARNING), live.watched(machine=True):
        live.number("stage_seconds.prepare", 1.0)
        live.number("stage_seconds.validate", 1.0)
    live.end("KILLED")
    assert time.monotonic() - began < 20
    said = [record.getMessage() for record in caplog.records if "runs" in record.name]
    assert len(said) == 1
    assert "no MLflow server answers there" in said[0]
    assert "hunter2" not in caplog.text


def test_a_store_without_a_server_has_no_pages(registry: Registry) -> None:
    assert isinstance(registry.store, Store)
    assert registry.store.begin("m", START).page is None
