"""A real Prefect server schedules the deployment of infra/, a real worker executes it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from e2e_support import Workspace, commit_all

pytestmark = pytest.mark.e2e


@contextmanager
def started(workspace: Workspace, log: str, *command: str, **env: str) -> Iterator[None]:
    """A server or worker in a process group of its own, ended with all it started."""
    (workspace.root / log).parent.mkdir(exist_ok=True)
    with open(workspace.root / log, "wb") as output:
        process = subprocess.Popen(
            command,
            cwd=workspace.root,
            env={**workspace.environment, **env},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def ask(address: str, body: dict | None = None) -> object:
    """One request to the server's API."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        address, data=data, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def wait_for(what: str, seconds: float, answer: object) -> object:
    """Call until it gives something true; errors of a server that is starting count as not yet."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := answer():
                return found
        except OSError:
            pass
        time.sleep(0.5)
    pytest.fail(f"{what} did not come within {seconds:.0f} s")


def test_a_scheduled_run_is_executed_by_a_worker(workspace: Workspace, free_port: int) -> None:
    api = f"http://127.0.0.1:{free_port}/api"
    env = {"PREFECT_API_URL": api, "IML_WORKSPACE": str(workspace.root)}
    plan = workspace.root / "infra/prefect.yaml"
    plan.write_text(plan.read_text().replace("0 2 * * *", "* * * * *"))
    commit_all(workspace, "every minute")
    serve = ("prefect", "server", "start", "--host", "127.0.0.1", "--port", str(free_port))
    with ExitStack() as running:
        running.enter_context(started(workspace, ".state/server.log", *serve, **env))
        wait_for("the server", 120, lambda: ask(f"{api}/health"))
        workspace.run("prefect", "work-pool", "create", "retrain", "--type", "process", **env)
        deploy = ("prefect", "--no-prompt", "deploy", "--all", "--prefect-file")
        workspace.run(*deploy, "infra/prefect.yaml", **env)
        work = ("prefect", "worker", "start", "--pool", "retrain")
        running.enter_context(started(workspace, ".state/worker.log", *work, **env))

        def finished() -> list[dict]:
            states = {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}}
            return ask(f"{api}/flow_runs/filter", {"flow_runs": states})

        runs = wait_for("the end of a scheduled run", 400, finished)
    log = (workspace.root / ".state/worker.log").read_text()[-3000:]
    assert runs[0]["state"]["type"] == "COMPLETED", log
    assert runs[0]["auto_scheduled"]
    listed = json.loads(workspace.iml("model", "list", "--json").stdout)
    assert [version["version"] for version in listed["versions"]] == [1]
