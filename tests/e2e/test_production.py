"""Scheduled retraining on the real stack: PostgreSQL, S3, MLflow, Prefect and a worker.

One stack serves all tests, which build on each other in order. The long ones (outages, kills, new
data) run under --campaigns.
"""

from __future__ import annotations

import base64
import http.server
import json
import os
import shlex
import shutil
import signal
import socket
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
import yaml
from e2e_support import Workspace, commit_all

pytestmark = pytest.mark.e2e
TAG = "model/boxpromptiml/v{}"
OUTPUTS = ("runs/prepare", "runs/pseudo_label", "runs/distill", "runs/evaluate", "runs/export")


@dataclass
class Stack:
    """A workspace, the servers it deploys to, and what people were told."""

    workspace: Workspace
    environment: dict[str, str]
    notices: list[dict[str, str]] = field(default_factory=list)

    def ask(self, path: str, body: dict | None = None, method: str | None = None) -> Any:
        """One request to Prefect's API."""
        token = base64.b64encode(self.environment["PREFECT_API_AUTH_STRING"].encode()).decode()
        request = urllib.request.Request(
            f"{self.environment['PREFECT_API_URL']}/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Basic {token}"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or "null")

    def runs(self) -> list[dict[str, Any]]:
        """Every flow run, oldest first."""
        body = {"sort": "START_TIME_ASC", "limit": 200}
        return self.ask("flow_runs/filter", body)

    def states(self, name: str) -> list[dict[str, Any]]:
        """Flow runs in a state of this name."""
        return [run for run in self.runs() if run["state"]["name"] == name]

    def trigger(self, name: str = "retrain/nightly") -> str:
        """Ask for a run of a deployment now; gives its id."""
        deployment = self.ask(f"deployments/name/{name}")["id"]
        body: dict[str, Any] = {"state": {"type": "SCHEDULED"}}
        return self.ask(f"deployments/{deployment}/create_flow_run", body)["id"]

    def ended(self, run: str, seconds: float = 400) -> dict[str, Any]:
        """A run once it has ended."""
        final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

        def state() -> dict[str, Any] | None:
            found = self.ask(f"flow_runs/{run}")
            return found if found["state"]["type"] in final else None

        return wait_for("the end of a run", seconds, state, self.log)

    def log(self) -> str:
        """The worker's last lines."""
        path = self.workspace.root / ".state/stack/logs/worker.log"
        return path.read_text(errors="replace")[-3000:]

    def at_work(self, stage: str) -> list[int]:
        """Processes of a stage in this stack's clone."""
        clone = str(self.workspace.root / ".state/clone")
        found = []
        for process in psutil.process_iter():
            try:
                mine = process.cwd() == clone and f"components.stages.{stage}" in process.cmdline()
            except psutil.Error:
                continue
            found += [process.pid] if mine else []
        return found

    def git(self, *arguments: str) -> str:
        """Git in the repository that is cloned."""
        return self.workspace.run("git", *arguments).stdout.strip()

    def iml(self, *arguments: str, code: int | None = 0) -> str:
        """The command line on the stack."""
        return self.workspace.iml(*arguments, code=code, **self.environment).stdout

    def versions(self) -> dict[int, dict[str, Any]]:
        """What the registry holds."""
        listed = json.loads(self.iml("model", "list", "--json"))
        return {row["version"]: row for row in listed["versions"]}

    def told(self) -> list[str]:
        """Titles of the notices, without the program's name."""
        return [notice["title"].removeprefix("BoxPromptIML: ") for notice in self.notices]

    def change(self, message: str, **blocks: dict) -> None:
        """Change parameters on the default branch."""
        self.workspace.params(**blocks)
        commit_all(self.workspace, message)


def wait_for(
    what: str, seconds: float, answer: Callable[[], Any], log: Callable[[], str] = lambda: ""
) -> Any:
    """Call until it gives something true; a server that is away counts as not yet."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := answer():
                return found
        except OSError:
            pass
        time.sleep(0.5)
    pytest.fail(f"{what} did not come within {seconds:.0f} s\n{log()}")


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class Webhook(http.server.BaseHTTPRequestHandler):
    """Keeps what Apprise posts as JSON."""

    notices: list[dict[str, str]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.notices.append(json.loads(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture(scope="module")
def stack(workspace: Workspace) -> Iterator[Stack]:
    """The stack, with the workspace deployed to it every 20 seconds."""
    notices: list[dict[str, str]] = []
    handler = type("Handler", (Webhook,), {"notices": notices})
    hook = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=hook.serve_forever, daemon=True).start()
    # PostgreSQL's own account cannot enter pytest's folder.
    home = Path(tempfile.mkdtemp(prefix="iml-stack-", dir="/tmp"))
    home.chmod(0o755)
    ports = dict(zip(("POSTGRES", "S3", "MLFLOW", "PREFECT"), free_ports(4), strict=True))
    given = {
        **{f"IML_{name}_PORT": str(port) for name, port in ports.items()},
        "IML_POSTGRES_DATA": str(home / "data"),
        "IML_STATE": str(workspace.root / ".state"),
        "IML_NOTIFY": f"json://127.0.0.1:{hook.server_port}",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }
    try:
        workspace.iml("stack", "up", **given)
        lines = (workspace.root / ".state/stack/environment").read_text().splitlines()
        pairs = (line.partition("=") for line in lines)
        made = {name: "".join(shlex.split(value)) for name, _, value in pairs}
        stack = Stack(workspace, {**given, **made}, notices)
        remote = ("--local", "--default", "shared", made["IML_DVC_REMOTE"])
        workspace.run("dvc", "remote", "add", *remote)
        workspace.run("dvc", "push", **stack.environment)
        plan = workspace.root / "infra/prefect.yaml"
        every = plan.read_text().replace('cron: "0 2 * * *"\n        timezone: UTC', "interval: 20")
        assert "interval: 20" in every
        plan.write_text(every)
        commit_all(workspace, "every 20 seconds")
        deploy = ("prefect", "--no-prompt", "deploy", "--all", "--prefect-file")
        workspace.run(*deploy, "infra/prefect.yaml", **stack.environment)
        yield stack
    finally:
        workspace.iml("stack", "down", code=None, **given)
        hook.shutdown()
        shutil.rmtree(home, ignore_errors=True)


def pause(stack: Stack, paused: bool = True) -> None:
    """Stop or resume the schedule."""
    deployment = stack.ask("deployments/name/retrain/nightly")["id"]
    verb = "pause_deployment" if paused else "resume_deployment"
    stack.ask(f"deployments/{deployment}/{verb}", {})


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


def test_the_stack_keeps_its_secrets_and_its_processes(stack: Stack) -> None:
    folder = stack.workspace.root / ".state/stack"
    assert (folder / "environment").stat().st_mode & 0o777 == 0o600
    before = json.loads((folder / "processes.json").read_text())
    stack.iml("stack", "up")
    assert json.loads((folder / "processes.json").read_text()) == before
    rows = json.loads(stack.iml("stack", "status", "--json"))
    assert [row["healthy"] for row in rows] == [True] * 5
    secrets = [v for k, v in stack.environment.items() if "SECRET" in k or "PASSWORD" in k]
    for row in before.values():
        command = " ".join(psutil.Process(int(row["pid"])).cmdline())
        assert not [secret for secret in secrets if secret in command]
    stranger = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    address = stack.environment["AWS_ENDPOINT_URL"]
    client = boto3.client("s3", endpoint_url=address, region_name="us-east-1", **stranger)
    with pytest.raises(client.exceptions.ClientError, match="403"):
        client.list_buckets()


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
    address, _, prefix = stack.environment["IML_DVC_REMOTE"].removeprefix("s3://").partition("/")
    listed = client.list_objects_v2(Bucket=address, Prefix=f"{prefix}/files/md5")["Contents"]
    place = max(listed, key=lambda row: row["Size"])["Key"]
    good = client.get_object(Bucket=address, Key=place)["Body"].read()
    client.put_object(Bucket=address, Key=place, Body=b"x" + good[1:])
    try:
        ended = stack.ended(stack.trigger("audit/weekly"))
    finally:
        client.put_object(Bucket=address, Key=place, Body=good)
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


def test_two_triggers_make_one_run(stack: Stack, long: None) -> None:
    stack.change("other seed", distill={"seed": 8})
    first, second = stack.trigger(), stack.trigger()
    names = sorted(stack.ended(run)["state"]["name"] for run in (first, second))
    assert names == ["Cancelled", "Completed"], stack.log()


def test_a_killed_worker_is_made_good_with_the_same_hashes(stack: Stack, long: None) -> None:
    stack.change("third seed", distill={"seed": 9, "epochs": 6})
    run = stack.trigger()
    wait_for("distill", 200, lambda: stack.at_work("distill"), stack.log)
    known = json.loads((stack.workspace.root / ".state/stack/processes.json").read_text())
    worker = psutil.Process(known["worker"]["pid"])
    for process in [*worker.children(recursive=True), worker]:
        if f"components.stages.{'distill'}" not in " ".join(process.cmdline()):
            process.kill()
    worker.wait(20)
    stack.ask(f"flow_runs/{run}/set_state", {"state": {"type": "CRASHED"}, "force": True})
    stack.iml("stack", "up")
    assert stack.ended(stack.trigger())["state"]["name"] == "Completed", stack.log()
    clone = Workspace(stack.workspace.root / ".state/clone")
    made = clone.hashes(*OUTPUTS)
    other = Workspace(stack.workspace.root / ".state/other")
    stack.git("clone", "-q", "--branch", "retrain", ".", str(other.root))
    stack.workspace.run("dvc", "pull", "data/demo.dvc", **stack.environment)
    shutil.copytree(stack.workspace.root / "data/demo", other.root / "data/demo")
    (other.root / "dvc.lock").unlink()
    other.run("dvc", "repro")
    assert other.hashes(*OUTPUTS) == made
    assert not stack.at_work("distill")


def outage(stack: Stack, service: str, seconds: float) -> None:
    """Kill a server and start it again after a while."""
    path = stack.workspace.root / ".state/stack/processes.json"
    os.killpg(json.loads(path.read_text())[service]["pid"], signal.SIGKILL)
    time.sleep(seconds)
    stack.iml("stack", "up")


@pytest.mark.parametrize(("service", "seed", "seconds"), [("s3", 10, 20.0), ("postgres", 11, 5.0)])
def test_an_outage_midway_is_waited_out(
    stack: Stack, long: None, service: str, seed: int, seconds: float
) -> None:
    before = set(stack.versions())
    stack.change(f"seed {seed}", distill={"seed": seed, "epochs": 3})
    run = stack.trigger()
    wait_for("export", 300, lambda: stack.at_work("export"), stack.log)
    outage(stack, service, seconds)
    assert stack.ended(run, 600)["state"]["name"] == "Completed", stack.log()
    assert len(set(stack.versions()) - before) == 1


def test_bad_data_is_refused_and_the_champion_stays(stack: Stack, long: None) -> None:
    before = stack.versions()
    index = stack.workspace.root / "data/demo/boxes.json"
    good = index.read_text()
    values = json.loads(good)
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
