"""Scheduled retraining on the real stack: PostgreSQL, S3, MLflow, Prefect and a worker.

One stack serves all tests, which build on each other in order. The long ones run under --campaigns.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
import yaml
from e2e_support import Workspace, commit_all
from PIL import Image
from production_support import TAG, Stack, pause, running, wait_for

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def stack(workspace: Workspace) -> Iterator[Stack]:
    """The stack, with the workspace deployed to it every 20 seconds."""
    with running(workspace, interval=20) as made:
        yield made


def test_a_scheduled_run_promotes_and_the_next_one_skips(stack: Stack) -> None:
    main = stack.git("rev-parse", "HEAD")
    wait_for("a skip", 500, lambda: stack.states("Skipped"), stack.log)
    pause(stack)
    done, skipped = stack.states("Completed"), stack.states("Skipped")
    assert [run["auto_scheduled"] for run in (done[0], skipped[0])] == [True, True]
    assert len(done) == 1, stack.log()
    assert skipped[0]["state"]["message"].endswith(f"changed since {TAG.format(1)}")
    assert not stack.states("Failed")
    assert stack.versions()[1]["status"] == "champion"
    assert stack.told() == ["promoted"]
    tip = stack.git("rev-parse", "retrain")
    assert stack.git("rev-parse", "HEAD") == main
    assert stack.git("rev-parse", f"{TAG.format(1)}^{{commit}}") == tip
    record = json.loads(stack.iml("model", "show", "boxpromptiml/1", "--json"))["lineage"]
    assert record["git"] == {"commit": tip, "clean": True, "dirty": []}
    assert record["dvc_lock"]["text"] == stack.git("show", "retrain:dvc.lock") + "\n"
    # Over MLflow's server and S3, where nothing can be read in place.
    assert "boxpromptiml/1 is verified" in stack.iml("audit", "boxpromptiml/1", "--deep")


def test_the_stack_keeps_its_secrets_and_its_processes(stack: Stack) -> None:
    folder = stack.workspace.root / ".state/stack"
    assert (folder / "environment").stat().st_mode & 0o777 == 0o600
    before = stack.pids()
    stack.iml("stack", "up")
    assert stack.pids() == before
    rows = json.loads(stack.iml("stack", "status", "--json"))
    assert [row["healthy"] for row in rows] == [True] * 5
    secrets = [v for k, v in stack.environment.items() if "SECRET" in k or "PASSWORD" in k]
    for pid in before.values():
        command = " ".join(psutil.Process(pid).cmdline())
        assert not [secret for secret in secrets if secret in command]
    stranger = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    address = stack.environment["AWS_ENDPOINT_URL"]
    client = boto3.client("s3", endpoint_url=address, region_name="us-east-1", **stranger)
    with pytest.raises(client.exceptions.ClientError, match="403"):
        client.list_buckets()


def test_killed_servers_come_back_by_themselves(stack: Stack, long: None) -> None:
    before = stack.pids()
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)

    def back() -> bool:
        rows = json.loads(stack.iml("stack", "status", "--json", code=None))
        return all(row["healthy"] and row["pid"] != before[row["service"]] for row in rows)

    wait_for("every server", 180, back, stack.log)
    # The process that MLflow's command line had started was left behind with its port.
    assert stack.versions()[1]["status"] == "champion"


@pytest.fixture
def long(campaigns: bool) -> None:
    if not campaigns:
        pytest.skip("a long scenario; run with --campaigns")


def s3_client(stack: Stack) -> Any:
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    keys = {name.lower(): stack.environment[name] for name in names}
    address = stack.environment["AWS_ENDPOINT_URL"]
    return boto3.client("s3", endpoint_url=address, region_name="us-east-1", **keys)


def test_the_audit_flow_on_the_stack(stack: Stack, long: None) -> None:
    ended = stack.ended(stack.trigger("audit/weekly"))
    assert ended["state"]["name"] == "Completed", ended["state"]["message"] + stack.log()
    said = json.loads((stack.workspace.root / ".state/audit/boxpromptiml-1.json").read_text())
    assert (said["verdict"], said["deep"]) == ("verified", True)
    assert said["objects"] > 100
    assert "postgresql" in said["source"]
    client, told = s3_client(stack), len(stack.told())
    bucket = stack.environment["IML_DVC_REMOTE"].removeprefix("s3://")
    listed = client.list_objects_v2(Bucket=bucket, Prefix="files/md5")["Contents"]
    place = max(listed, key=lambda row: row["Size"])["Key"]
    good = client.get_object(Bucket=bucket, Key=place)["Body"].read()
    client.put_object(Bucket=bucket, Key=place, Body=b"x" + good[1:])
    try:
        ended = stack.ended(stack.trigger("audit/weekly"))
    finally:
        client.put_object(Bucket=bucket, Key=place, Body=good)
    assert ended["state"]["name"] == "Failed"
    assert "boxpromptiml/1 is broken: data" in ended["state"]["message"]
    wait_for("a notice", 30, lambda: "failed" in stack.told()[told:])
    assert json.loads(stack.iml("audit", "--deep", "--json"))["verdict"] == "verified"


def upload(stack: Stack, folder: Path, prefix: str) -> None:
    client = s3_client(stack)
    for path in sorted(folder.iterdir(), key=lambda path: path.suffix == ".json"):
        client.put_object(Bucket="inbox", Key=f"{prefix}/{path.name}", Body=path.read_bytes())


def test_new_photos_in_the_inbox_make_a_new_version(
    stack: Stack, long: None, tmp_path: Path
) -> None:
    made = stack.workspace.root / "data/more"
    counts = ("--manipulated", "6", "--authentic", "2", "--seed", "99", "--no-track")
    stack.workspace.iml("dataset", "synthesize", "--name", "more", *counts)
    index = json.loads((made / "boxes.json").read_text())
    for image in index["images"]:
        name = f"new-{Path(image['file_name']).name}"
        shutil.copyfile(made / "photos" / image["file_name"], tmp_path / name)
        image["file_name"] = name
        image.pop("mask", None)
    (tmp_path / "broken.jpg").write_bytes(b"not a photo")
    broken = {"id": 9999, "file_name": "broken.jpg", "width": 10, "height": 10}
    index["images"].append({**broken, "label": "authentic"})
    (tmp_path / "annotations.json").write_text(json.dumps(index))
    shutil.rmtree(made)
    upload(stack, tmp_path, "first")
    assert stack.ended(stack.trigger())["state"]["name"] == "Completed", stack.log()
    assert set(stack.versions()) == {1, 2}
    assert stack.told().count("data refused") == 1
    record = json.loads(stack.git("show", "retrain:inbox.json"))["first"]
    assert (record["added"], record["rejected"][0].partition(":")[0]) == (8, "broken.jpg")
    assert stack.ended(stack.trigger())["state"]["name"] == "Skipped", stack.log()


def test_of_two_triggers_one_waits_and_finds_nothing_to_do(stack: Stack, long: None) -> None:
    stack.change("other seed", distill={"seed": 8})
    first, second = stack.trigger(), stack.trigger()
    names = sorted(stack.ended(run)["state"]["name"] for run in (first, second))
    assert names == ["Completed", "Skipped"], stack.log()


def run(stack: Stack, name: str, *told: str, **parameters: object) -> str:
    """Run a deployment and wait for exactly these notices; gives the state that it ended in."""
    before = len(stack.notices)
    state = stack.ended(stack.trigger(name, **parameters))["state"]["name"]
    expected = list(told)
    wait_for(str(told), 30, lambda: stack.told()[before:] == expected, lambda: str(stack.told()))
    return state


def champion(stack: Stack) -> int:
    return next(n for n, row in stack.versions().items() if row["status"] == "champion")


def test_people_decide_through_deployments_and_are_told(stack: Stack, long: None) -> None:
    nightly, who = "retrain/nightly", {"by": "anna", "reason": "looked at the overlays"}
    first, rules = champion(stack), {"mode": "approve", "gates": {"min_f1": 0.0}}
    assert run(stack, nightly, "skipped too long", publish=True, stale_days=-1) == "Skipped"
    stack.change("a person decides", distill={"seed": 20}, promotion=rules)
    assert run(stack, nightly, "awaiting approval", publish=True) == "Completed"
    new = max(stack.versions())
    assert run(stack, "promote/approve", "promoted", version=new, **who) == "Completed"
    assert champion(stack) == new
    assert run(stack, "rollback/back", "promoted", version=first, **who) == "Completed"
    assert champion(stack) == first
    assert run(stack, "rollback/back", "failed", version=99, **who) == "Failed"
    rules["gates"]["min_f1"] = 1.0
    stack.change("nothing is good enough", distill={"seed": 21}, promotion=rules)
    assert run(stack, nightly, "rejected", publish=True) == "Completed"
    assert champion(stack) == first
    stack.change("as before", promotion={"mode": "auto", "gates": {"min_f1": 0.0}})


def test_audit_score_and_drift_run_as_deployments(stack: Stack, long: None, tmp_path: Path) -> None:
    assert run(stack, "audit/weekly", sample=1) == "Completed"
    photos, tampered = stack.workspace.root / "data/demo/photos", tmp_path / "tampered"
    tampered.mkdir()
    for path in photos.iterdir():
        with Image.open(path) as photo:
            photo.convert("RGB").resize((96, 64)).save(tampered / f"{path.stem}.jpg", quality=20)
    for name, source in (("then", photos), ("now", tampered)):
        out = str(tmp_path / name)
        assert run(stack, "score/on-demand", source=str(source), out=out) == "Completed"
        assert (tmp_path / name / "triage.html").exists()
    then, now = (str(tmp_path / name / "scores.parquet") for name in ("then", "now"))
    out = str(tmp_path / "drift")
    assert run(stack, "drift/drift", "drift", reference=then, current=now, out=out) == "Completed"


def test_bad_data_is_refused_and_the_champion_stays(stack: Stack, long: None) -> None:
    before = stack.versions()
    # What runs took in from the inbox is on their branch; data are changed on top of it.
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    stack.workspace.run("git", *who, "merge", "--quiet", "--no-edit", "retrain")
    stack.workspace.run("dvc", "pull", "--force", "data/demo", **stack.environment)
    index = stack.workspace.root / "data/demo/boxes.json"
    values = json.loads(index.read_text())
    for row in values["annotations"]:
        row["bbox"] = [-500, -500, 2, 2]
    index.unlink()
    index.write_text(json.dumps(values))
    stack.workspace.run("dvc", "add", "data/demo")
    stack.workspace.run("dvc", "push", **stack.environment)
    commit_all(stack.workspace, "bad boxes")
    ended = stack.ended(stack.trigger())
    assert ended["state"]["name"] == "Failed"
    assert "stage validate" in ended["state"]["message"]
    wait_for("a notice", 30, lambda: "failed" in stack.told())
    assert stack.versions() == before


def test_rotated_keys_serve_the_same_data(stack: Stack, long: None) -> None:
    before = stack.versions()
    old = dict(stack.environment)
    stack.iml("stack", "rotate")
    lines = (stack.workspace.root / ".state/stack/environment").read_text().splitlines()
    pairs = (line.partition("=") for line in lines)
    new = {name: "".join(shlex.split(value)) for name, _, value in pairs}
    assert new["IML_LEDGER_URL"] != old["IML_LEDGER_URL"]
    stack.environment.update(new)
    assert stack.versions() == before
    assert yaml.safe_load(stack.git("show", "retrain:params.yaml"))
