"""Photos and coarse boxes to a registered, gated, usable model: the real commands, in order.

The tests of this module share one workspace and follow each other, as a person's commands would.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from e2e_support import Workspace, commit_all
from openlineage_schemas import problems
from PIL import Image

pytestmark = pytest.mark.e2e
STAGES = ["index@demo", "prepare", "validate", "pseudo_label", "distill", "export", "evaluate@demo"]


def run_json(workspace: Workspace, *options: str, code: int = 0, **env: str) -> dict:
    """The outcome of `iml run`."""
    return json.loads(workspace.iml("run", "--json", *options, code=code, **env).stdout)


def ran(outcome: dict) -> list[str]:
    """The stages that had to run."""
    return [stage["stage"] for stage in outcome["stages"] if stage["ran"]]


@pytest.fixture(scope="module")
def first(workspace: Workspace) -> dict:
    """The outcome of the first run, which a lineage catalogue was told of."""
    transport = {"TYPE": "file", "LOG_FILE_PATH": ".state/events.jsonl", "APPEND": "true"}
    told = {f"OPENLINEAGE__TRANSPORT__{name}": value for name, value in transport.items()}
    return run_json(workspace, "--commit", **told)


def test_the_first_run_makes_a_champion(workspace: Workspace, first: dict) -> None:
    assert ran(first) == STAGES
    assert (first["version"], first["registered"], first["promoted"]) == (1, True, True)
    shown = json.loads(workspace.iml("model", "show", "boxpromptiml@champion", "--json").stdout)
    assert shown["version"] == 1
    folder = workspace.root / ".state/decisions"
    page = (folder / "boxpromptiml-v1.html").read_text()
    assert '<div class="verdict good"><b>Champion</b>' in page
    assert page.count("data-card=") > 3
    report = (folder / "boxpromptiml-v1.evaluation-demo.html").read_text()
    assert "<dd>boxpromptiml/1</dd>" in report
    assert len(report) > len((workspace.root / "runs/evaluate/demo/report.html").read_text())


def test_a_run_that_commits_leaves_a_clean_clone(workspace: Workspace, first: dict) -> None:
    assert workspace.run("git", "status", "--porcelain").stdout == ""
    shown = workspace.run("git", "show", "--name-only", "--format=%s", "HEAD").stdout.split("\n")
    assert re.fullmatch(r"retrain: F1 [\d.]+ on demo", shown[0])
    lock, key = [name for name in shown[1:] if name]
    assert lock == "dvc.lock"
    assert re.fullmatch(r"trusted_keys/[0-9a-f]{64}\.pem", key)
    assert (
        workspace.run("git", "tag", "--points-at", "HEAD").stdout == "local/model/boxpromptiml/v1\n"
    )


def test_a_catalogue_was_told_of_every_stage_and_decision(
    workspace: Workspace, first: dict
) -> None:
    lines = (workspace.root / ".state/events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert [problem for event in events for problem in problems(event)] == []
    told = [(e["job"]["name"], e["eventType"]) for e in events]
    jobs = [*STAGES, "registered", "gated", "promoted"]
    assert told == [(job, state) for job in jobs for state in ("START", "COMPLETE")]
    trained = events[2 * STAGES.index("distill") + 1]
    (manifest,) = [i for i in trained["inputs"] if i["name"].endswith("manifest.parquet")]
    assert {"version", "schema"} <= manifest["facets"].keys()
    assert {"dataQualityMetrics", "dataQualityAssertions"} <= manifest["inputFacets"].keys()


def test_a_second_run_does_nothing(workspace: Workspace, first: dict) -> None:
    before = workspace.hashes("runs")
    done = workspace.iml("run", "--json", PYTHONPROFILEIMPORTTIME="1")
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "sqlalchemy" in imported
    assert not imported & {"prefect", "mlflow", "torch", "pandas"}
    again = json.loads(done.stdout)
    assert ran(again) == []
    assert (again["version"], again["registered"], again["promoted"]) == (1, False, True)
    assert workspace.hashes("runs") == before
    history = json.loads(workspace.iml("model", "history", "--json").stdout)["rows"]
    assert [row["event"] for row in history].count("registered") == 1


def test_an_audit_proves_the_champion_to_the_last_photo(workspace: Workspace, first: dict) -> None:
    page = workspace.root / ".state/audit.html"
    said = json.loads(workspace.iml("audit", "--deep", "--json", "--page", str(page)).stdout)
    assert (said["version"], said["verdict"]) == (1, "verified")
    assert said["objects"] > 100
    assert "boxpromptiml/1" in page.read_text()


def test_dvc_repro_alone_agrees(workspace: Workspace, first: dict) -> None:
    assert "up to date" in workspace.run("dvc", "repro").stdout


def test_a_changed_gate_gates_again_and_retrains_nothing(workspace: Workspace, first: dict) -> None:
    workspace.params(promotion={"gates": {"min_f1": 1.0}})
    outcome = run_json(workspace, code=1)
    assert ran(outcome) == []
    assert (outcome["version"], outcome["registered"], outcome["promoted"]) == (1, False, False)
    failed = [gate["name"] for gate in outcome["gates"] if not gate["passed"]]
    assert failed == ["min_f1"]
    workspace.params(promotion={"gates": {"min_f1": 0.0}})


def test_dvc_answers_as_its_users_expect(workspace: Workspace, first: dict) -> None:
    metrics = workspace.run("dvc", "metrics", "show", "--json").stdout
    assert "runs/evaluate/demo/metrics.json" in metrics
    workspace.params(distill={"epochs": 4})
    assert "distill.epochs" in workspace.run("dvc", "params", "diff").stdout
    workspace.params(distill={"epochs": 3})
    page = workspace.run("dvc", "plots", "show", "--out", ".state/plots").stdout.strip()
    assert "train_loss" in Path(page.removeprefix("file://")).read_text()


def test_predict_with_the_champion(workspace: Workspace, first: dict) -> None:
    photos = sorted((workspace.root / "data/demo/photos").rglob("*.jpg"))[:2]
    folder = workspace.root / ".state/incoming"
    folder.mkdir(parents=True)
    for photo in photos:
        (folder / photo.name).write_bytes(photo.read_bytes())
    done = workspace.iml("predict", str(folder), "--out", ".state/predicted", "--json")
    assert len(json.loads(done.stdout)["photos"]) == 2
    with Image.open(photos[0]) as photo:
        size = photo.size
    masks = sorted((workspace.root / ".state/predicted").rglob("*.mask.png"))
    with Image.open(masks[0]) as mask:
        assert (mask.size, mask.mode) == (size, "L")


def test_the_champion_is_not_scored_on_what_it_was_trained_on(
    workspace: Workspace, first: dict
) -> None:
    command = ("evaluate", "--data", "data/demo", "--out", ".state/scored", "--json")
    told = json.loads(workspace.iml(*command).stdout)
    assert told["photos"] == "test split"
    workspace.params(prepare={"seed": 8})
    other = json.loads(workspace.iml(*command).stdout)
    workspace.params(prepare={"seed": 7})
    assert re.fullmatch(r"test split, \d+ left out that the model was trained .*", other["photos"])


def test_push_and_pull_through_the_local_remote(workspace: Workspace, first: dict) -> None:
    before = workspace.hashes("runs", "data/demo")
    workspace.run("dvc", "push")
    for folder in ("runs", "data/demo", ".dvc/cache"):
        workspace.run("rm", "-rf", folder)
    workspace.run("dvc", "pull")
    assert workspace.hashes("runs", "data/demo") == before


def test_one_changed_photo_reruns_what_depends_on_it(workspace: Workspace, first: dict) -> None:
    index = json.loads((workspace.root / "data/demo/boxes.json").read_text())
    photo = workspace.root / "data/demo/photos" / index["images"][0]["file_name"]
    with Image.open(photo) as opened:
        pixels = np.array(opened)
    pixels[:40, :40] = 255 - pixels[:40, :40]
    Image.fromarray(pixels).save(photo, quality=95)
    workspace.run("dvc", "add", "--quiet", "data/demo")
    commit_all(workspace, "one photo changed")
    outcome = run_json(workspace)
    assert ran(outcome)[:5] == STAGES[:5]
    assert (outcome["version"], outcome["registered"]) == (2, True)


def test_a_second_run_beside_the_first_is_refused(workspace: Workspace, first: dict) -> None:
    holder = (
        "import time; from components import workspace as w\n"
        "with w.exclusive(): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder],
        cwd=workspace.root,
        env=workspace.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "held"
            done = workspace.iml("run", code=1)
            assert "another run is working" in done.stderr
        finally:
            process.kill()
