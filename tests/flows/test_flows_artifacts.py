"""What Prefect's page of a run shows, asked of a real Prefect server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.core.files import write_json
from flows import artifacts

OUTCOME: dict[str, Any] = {
    "stages": [{"stage": "prepare", "ran": True, "seconds": 3.2}],
    "model": "m",
    "version": 2,
    "gates": [{"name": "min_f1", "passed": True, "value": None}],
    "sentence": "version 2 of m is champion",
}


@pytest.fixture
def evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which `made` was evaluated, beside an MLflow server's address."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:hunter2@mlflow.example:5000/base/")
    found = {"f1": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}, "groups": {"x": {}}, "n": 3}
    write_json("runs/evaluate/made/metrics.json", found)
    return tmp_path


def test_the_page_has_tables_and_links(evaluated: Path) -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.testing.utilities import prefect_test_harness

    @flow
    def decided() -> None:
        artifacts.show(OUTCOME, ["made"])

    with prefect_test_harness(server_startup_timeout=180):
        decided()
        with get_client(sync_client=True) as client:
            found = {entry.key: entry for entry in client.read_artifacts()}
    tables = {key: json.loads(e.data) for key, e in found.items() if e.type == "table"}
    assert tables == {
        "retrain-stages": OUTCOME["stages"],
        "retrain-gates": OUTCOME["gates"],
        "retrain-metrics": [
            {"data set": "made", "metric": "f1", "value": 0.5, "low": 0.4, "high": 0.6}
        ],
    }
    assert OUTCOME["sentence"] in str(found["retrain-gates"].description)
    reports = str(found["retrain-reports"].data)
    for page in ("report", "photos"):
        assert f"- `runs/evaluate/made/{page}.html`" in reports
    link = "http://mlflow.example:5000/base/#/models/m/versions/2?workflowType=machine_learning"
    assert f"[m/2]({link})" in str(found["retrain-version"].data)
    assert all(entry.flow_run_id for entry in found.values())


def test_without_a_flow_run_nothing_is_made(
    evaluated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    for kind in ("table", "markdown", "link"):
        name = f"create_{kind}_artifact"
        monkeypatch.setattr(
            f"prefect.artifacts.{name}", lambda *_, name=name, **__: made.append(name)
        )
    artifacts.show(OUTCOME, ["made"])
    assert made == []
    monkeypatch.setattr(artifacts, "in_flow", lambda: True)
    artifacts.show(OUTCOME, ["made"])
    assert len(made) == 5  # what it would have made
