"""The production stack of a workspace, deployed, and what tests ask of it."""

from __future__ import annotations

import base64
import http.server
import json
import shlex
import shutil
import socket
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from e2e_support import Workspace, commit_all

TAG = "model/boxpromptiml/v{}"


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

    def trigger(self, name: str = "retrain/nightly", **parameters: Any) -> str:
        """Ask for a run of a deployment now; gives its id."""
        deployment = self.ask(f"deployments/name/{name}")["id"]
        body: dict[str, Any] = {"state": {"type": "SCHEDULED"}, "parameters": parameters}
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

    def pids(self) -> dict[str, int]:
        """The process of each service."""
        rows = json.loads(self.iml("stack", "status", "--json", code=None))
        return {row["service"]: row["pid"] for row in rows}

    def at_work(self, stage: str) -> list[int]:
        """Processes of a stage in this stack's clone."""
        clone = str(self.workspace.root / ".state/clone")
        found = []
        for process in psutil.process_iter():
            try:
                mine = process.cwd() == clone and f"components.{stage}" in process.cmdline()
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


@contextmanager
def running(workspace: Workspace, interval: int) -> Iterator[Stack]:
    """The stack, with the workspace deployed to it every few seconds, as an operator does it."""
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
        nightly = 'cron: "0 2 * * *"\n        timezone: UTC'
        replace(workspace, "infra/prefect.yaml", nightly, f"interval: {interval}")
        replace(workspace, "infra/prefect.yaml", 'FREQUENCY: "60"', 'FREQUENCY: "30"')
        replace(workspace, "infra/automations.yaml", "within: 1800", "within: 90")
        commit_all(workspace, "faster")
        deploy = ("prefect", "--no-prompt", "deploy", "--all", "--prefect-file")
        workspace.run(*deploy, "infra/prefect.yaml", **stack.environment)
        queue = ("prefect", "work-queue", "set-concurrency-limit", "retraining", "1")
        workspace.run(*queue, "--pool", "retrain", **stack.environment)
        watch = ("prefect", "automation", "create", "--from-file", "infra/automations.yaml")
        workspace.run(*watch, **stack.environment)
        yield stack
    finally:
        workspace.iml("stack", "down", code=None, **given)
        hook.shutdown()
        shutil.rmtree(home, ignore_errors=True)


def replace(workspace: Workspace, path: str, old: str, new: str) -> None:
    """Change what must stand in a file once."""
    text = (workspace.root / path).read_text()
    assert text.count(old) == 1, (path, old)
    (workspace.root / path).write_text(text.replace(old, new))


def pause(stack: Stack, paused: bool = True) -> None:
    """Stop or resume the schedule."""
    deployment = stack.ask("deployments/name/retrain/nightly")["id"]
    verb = "pause_deployment" if paused else "resume_deployment"
    stack.ask(f"deployments/{deployment}/{verb}", {})
