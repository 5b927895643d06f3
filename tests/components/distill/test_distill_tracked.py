"""The stage `distill` beside MLflow: the curve is live, the outputs are the same, no one waits."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import yaml
from mlflow import MlflowClient
from small_students import small_settings

from components.distill.progress import Epoch
from components.registry.runs import Start
from components.registry.tracking import Store

ROOT = Path(__file__).parents[3]
STAGE = """
import sys
from components.distill.__main__ import main
main()
print("mlflow" in sys.modules)
"""
SETTINGS = ("MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI")


def train(root: Path, name: str, **environment: str) -> tuple[dict[str, bytes], str, str]:
    """Train from scratch in a process of its own: output files, stdout, stderr."""
    clean = {key: value for key, value in os.environ.items() if key not in SETTINGS}
    done = subprocess.run(
        [sys.executable, "-c", STAGE],
        cwd=root,
        env={**clean, "PYTHONPATH": str(ROOT), "IML_STATE": str(root / name), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    files = {path.name: path.read_bytes() for path in (root / "runs/distill").iterdir()}
    return files, done.stdout.strip(), done.stderr


def test_mlflow_gets_the_curve_and_changes_nothing(made, free_port) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["prepare"]["datasets"] = values["evaluate"]["datasets"] = ["tiny"]
    values["distill"] = small_settings().model_dump()
    (made.root / "params.yaml").write_text(yaml.safe_dump(values))

    alone, imported, _ = train(made.root, "alone")
    assert imported == "False"

    uri = f"sqlite:///{made.root}/mlflow.db"
    live = Store(uri).begin("m", Start("a training"))
    tracked, imported, told = train(
        made.root, "tracked", MLFLOW_RUN_ID=live.run_id, MLFLOW_TRACKING_URI=uri
    )
    assert imported == "True"
    assert tracked == alone
    assert told.count("val F1") == 3
    client = MlflowClient(uri, uri)
    assert client.get_run(live.run_id).info.status == "RUNNING"
    for name in Epoch.__annotations__.keys() - {"epoch"}:
        points = client.get_metric_history(live.run_id, name)
        assert [point.step for point in points] == [1, 2, 3], name
    lines = alone["history.csv"].decode().splitlines()
    said = [float(line.split(",")[1]) for line in lines[1:]]
    assert [p.value for p in client.get_metric_history(live.run_id, "train_loss")] == said

    began = time.monotonic()
    away = {"MLFLOW_RUN_ID": "0" * 32, "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port}"}
    unheard, _, told = train(made.root, "away", **away)
    assert unheard == alone
    assert told.count("MLflow does not take the curve now") == 1
    assert "Traceback" not in told
    assert time.monotonic() - began < 120
