"""A Prefect server and a worker of a test's own, that can be killed and started again.

They run infra/prefect.yaml's nightly deployment and infra/automations.yaml, in shorter times, with
a small flow that holds the run lock as a retraining does.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml
from production_support import wait_for
from project import BIN, ROOT

FLOW = """
import time
from components import workspace
from flows.steps import reporting_flow, step

@step("train")
def train(seconds, log):
    for word in ("begins", "ends"):
        with open(log, "a") as file:
            file.write(f"{word}\\n")
        time.sleep(seconds if word == "begins" else 0)

@reporting_flow("retrain")
def retrain(log, seconds=0.0):
    with workspace.exclusive():
        train(seconds, log)
        train(0, log)
"""
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@dataclass
class Prefect:
    """One server, one worker, and what they run.

    Attributes:
        home: their folder.
        seconds: without a sign of life after which a run is dead.
    """

    home: Path
    port: int
    seconds: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if name[:4] != "IML_"},
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PREFECT_HOME": str(self.home / "prefect"),
            "PREFECT_API_URL": f"http://127.0.0.1:{self.port}/api",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "IML_STATE": str(self.home / "state"),
        }

    def run(self, *command: str) -> None:
        with (self.home / "deploy.log").open("ab") as log:
            subprocess.run(
                command, cwd=self.home, env=self.environment, stdout=log, stderr=log, check=True
            )

    def _start(self, name: str, *command: str) -> None:
        with (self.home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                ["prefect", *command],
                cwd=self.home,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start_server(self) -> None:
        self._start(
            "server", "server", "start", "--no-ui", "--host", "127.0.0.1", "--port", str(self.port)
        )
        self.ask("health")

    def start_worker(self) -> None:
        self._start("worker", "worker", "start", "--pool", "retrain", "--type", "process")

    def kill(self, name: str) -> None:
        """Kill -9 the server, or the worker; a run that it has started lives on."""
        with suppress(ProcessLookupError):
            os.killpg(self.processes[name].pid, signal.SIGKILL)
        self.processes[name].wait()

    def kill_run(self) -> None:
        """Kill -9 every process of a run."""
        for process in self.run_processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def run_processes(self) -> list[psutil.Process]:
        """Every process that works on a run."""
        mine, found = f"PREFECT_HOME={self.home / 'prefect'}", []
        servers = {process.pid for process in self.processes.values()}
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                environment = process.environ()
                if f"PREFECT_HOME={environment.get('PREFECT_HOME')}" == mine and (
                    process.pid not in servers and "PREFECT__FLOW_RUN_ID" in environment
                ):
                    found.append(process)
        return found

    def log(self) -> str:
        return "".join(
            path.read_text(errors="replace")[-2000:] for path in sorted(self.home.glob("*.log"))
        )

    def ask(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """One request to the API; a server that starts, or is busy, is asked again."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            method=method,
        )

        def answer() -> list[Any]:
            with urllib.request.urlopen(request, timeout=30) as found:
                return [json.loads(found.read() or "null")]

        return wait_for(path, 240, answer, self.log)[0]

    def runs(self) -> list[dict[str, Any]]:
        """Every run, of whatever state."""
        return self.ask("flow_runs/filter", {"limit": 200})

    @property
    def deployment(self) -> str:
        return self.ask("deployments/name/retrain/nightly")["id"]

    def trigger(self, seconds: float = 0.0) -> str:
        """Ask for a run whose training takes a while; gives its id."""
        parameters = {"log": str(self.home / "training"), "seconds": seconds}
        body = {"state": {"type": "SCHEDULED"}, "parameters": parameters}
        return self.ask(f"deployments/{self.deployment}/create_flow_run", body)["id"]

    def state(self, run: str) -> dict[str, Any]:
        return self.ask(f"flow_runs/{run}")["state"]

    def reached(self, run: str, *types: str, seconds: float = 240) -> dict[str, Any]:
        """A run's state once it is of one of these types."""

        def found() -> dict[str, Any] | None:
            state = self.state(run)
            return state if state["type"] in types else None

        return wait_for(f"{types} of the run", seconds, found, self.log)

    def training(self) -> list[str]:
        """What the trainings wrote, in order."""
        path = self.home / "training"
        return path.read_text().split() if path.exists() else []


@contextmanager
def prefect(home: Path, port: int, seconds: int, clone_seconds: float = 0) -> Iterator[Prefect]:
    """A server with the nightly deployment and the automation, and a worker.

    Args:
        home: an empty folder.
        port: of the server.
        seconds: without a sign of life after which a run is dead.
        clone_seconds: that the step before the flow takes.
    """
    made = Prefect(home, port, seconds)
    plan = yaml.safe_load((ROOT / "infra/prefect.yaml").read_text())
    (nightly,) = [row for row in plan["deployments"] if row["name"] == "nightly"]
    nightly |= {"entrypoint": "retrain.py:retrain", "parameters": {}, "schedules": []}
    nightly["work_pool"]["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] = "30"
    steps = "prefect.deployments.steps."
    pull = [
        {f"{steps}run_shell_script": {"script": f"sleep {clone_seconds}"}},
        {f"{steps}set_working_directory": {"directory": str(home)}},
    ]
    written = {"name": "test", "pull": pull, "deployments": [nightly]}
    (home / "prefect.yaml").write_text(yaml.safe_dump(written))
    (home / "retrain.py").write_text(FLOW)
    (watch,) = yaml.safe_load((ROOT / "infra/automations.yaml").read_text())
    watch["trigger"]["within"] = seconds
    try:
        made.start_server()
        made.start_worker()
        made.ask("work_pools/retrain")
        made.run("prefect", "--no-prompt", "deploy", "--all", "--prefect-file", "prefect.yaml")
        # As `prefect work-queue set-concurrency-limit` and `prefect automation create` do it.
        made.ask("work_pools/retrain/queues/retraining", {"concurrency_limit": 1}, "PATCH")
        made.ask("automations/", watch)
        yield made
    finally:
        for name in made.processes:
            made.kill(name)
        made.kill_run()
