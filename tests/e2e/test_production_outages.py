"""The real stack when things die midway: the worker, S3, PostgreSQL. Under --campaigns."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator

import psutil
import pytest
from e2e_support import Workspace
from production_support import Stack, pause, running, wait_for

pytestmark = pytest.mark.e2e
OUTPUTS = ("runs/prepare", "runs/pseudo_label", "runs/distill", "runs/evaluate", "runs/export")


@pytest.fixture(scope="module")
def stack(campaigns: bool, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The stack with a deployment that runs when it is asked to."""
    if not campaigns:
        pytest.skip("long scenarios; run with --campaigns")
    workspace: Workspace = request.getfixturevalue("workspace")
    with running(workspace, interval=86400) as made:
        pause(made)
        yield made


def kill_worker(stack: Stack, stage: str) -> list[int]:
    """Kill -9 the worker, its run and DVC; gives the stage's own processes, which stay."""
    worker = psutil.Process(stack.pids()["worker"])
    left = stack.at_work(stage)
    for process in [*worker.children(recursive=True), worker]:
        if process.pid not in left:
            process.kill()
    worker.wait(20)
    for pid in left:
        # Still there when the next run starts, however long that takes.
        os.kill(pid, signal.SIGSTOP)
    return left


def test_a_killed_worker_is_made_good_with_the_same_hashes(stack: Stack) -> None:
    stack.change("third seed", distill={"seed": 9, "epochs": 6})
    run = stack.trigger()
    wait_for("distill", 200, lambda: stack.at_work("distill"), stack.log)
    left = kill_worker(stack, "distill")
    assert left
    stack.iml("stack", "up")
    dead = stack.ended(run, 300)["state"]
    assert (dead["name"], dead["message"][:15]) == ("Crashed", "No sign of life")
    assert all(psutil.pid_exists(pid) for pid in left)
    assert stack.ended(stack.trigger())["state"]["name"] == "Completed", stack.log()
    assert not any(psutil.pid_exists(pid) for pid in left)
    assert stack.told().count("failed") == 1
    clone = Workspace(stack.workspace.root / ".state/clone")
    made = clone.hashes(*OUTPUTS)
    other = Workspace(stack.workspace.root / ".state/other")
    stack.git("clone", "-q", "--branch", "retrain", ".", str(other.root))
    stack.workspace.run("dvc", "pull", "data/demo.dvc", **stack.environment)
    shutil.copytree(stack.workspace.root / "data/demo", other.root / "data/demo")
    (other.root / "dvc.lock").unlink()
    other.run("dvc", "repro")
    assert other.hashes(*OUTPUTS) == made


def outage(stack: Stack, service: str, seconds: float) -> None:
    """Kill a server, keep it down, and start it again after a while."""
    os.killpg(stack.pids()[service], signal.SIGKILL)
    config = stack.workspace.root / ".state/stack/supervisor/supervisord.conf"
    stack.workspace.run("supervisorctl", "-c", str(config), "stop", service)
    time.sleep(seconds)
    stack.iml("stack", "up")


@pytest.mark.parametrize(("service", "seed", "seconds"), [("s3", 10, 20.0), ("postgres", 11, 5.0)])
def test_an_outage_midway_is_waited_out(
    stack: Stack, service: str, seed: int, seconds: float
) -> None:
    before = set(stack.versions())
    stack.change(f"seed {seed}", distill={"seed": seed, "epochs": 3})
    run = stack.trigger()
    wait_for("export", 300, lambda: stack.at_work("export"), stack.log)
    outage(stack, service, seconds)
    assert stack.ended(run, 600)["state"]["name"] == "Completed", stack.log()
    assert len(set(stack.versions()) - before) == 1
