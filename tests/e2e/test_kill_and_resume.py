"""Ctrl-C or `kill -9` in a stage, then the same command: the same hashes in the end."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from e2e_support import Workspace, add_demo, make_workspace
from mlflow import MlflowClient

pytestmark = pytest.mark.e2e
OUTPUTS = ("runs/prepare", "runs/pseudo_label", "runs/distill", "runs/evaluate", "runs/export")


def kill_when(workspace: Workspace, stage: str, ready: Callable[[], bool]) -> None:
    """Start `iml run` and, once `ready` holds while `stage` is at work, kill -9 all of it."""
    process = subprocess.Popen(
        ["iml", "run"],
        cwd=workspace.root,
        env=workspace.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while not (ready() and at_work(process.pid, stage)):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    # Only the run itself: what it leaves behind, the next run has to end.
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def press_ctrl_c_when(workspace: Workspace, stage: str, ready: Callable[[], bool]) -> str:
    """Start `iml run` in a terminal and press Ctrl-C while `stage` is at work; gives what it said.

    Nothing of it may be left: no process, and no lock that would stop the next run.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(workspace.root)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a test run in the background ignores it
        os.execvpe("iml", ["iml", "run"], workspace.environment)
    said, pressed = b"", False
    deadline = time.monotonic() + 300
    while True:
        if select.select([terminal], [], [], 0.02)[0]:
            try:
                said += os.read(terminal, 65536)
            except OSError:  # the other end is closed: the command has ended
                break
        if not pressed and ready() and at_work(pid, stage):
            os.write(terminal, b"\x03")
            pressed = True
        assert time.monotonic() < deadline
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(terminal)
    assert (pressed, code) == (True, 130), said.decode()
    assert not processes(workspace)
    return said.decode()


def processes(workspace: Workspace) -> list[list[str]]:
    """The command lines of all processes that stand in the workspace."""
    found = psutil.process_iter(["cmdline", "cwd"])
    return [p.info["cmdline"] for p in found if p.info["cwd"] == str(workspace.root)]


def at_work(parent: int, stage: str) -> bool:
    """Whether the stage's own process runs below this one."""
    for process in psutil.Process(parent).children(recursive=True):
        try:
            if f"components.{stage}" in process.cmdline():
                return True
        except psutil.Error:
            continue
    return False


def cached(workspace: Workspace, stage: str, pattern: str = "*") -> list[Path]:
    """Finished pieces of a stage's work."""
    folder = workspace.root / ".state/cache" / stage
    return [path for path in folder.rglob(pattern) if path.is_file()]


@pytest.fixture(scope="module")
def uninterrupted(workspace: Workspace) -> dict[str, str]:
    """Hashes after `dvc repro` in one go, without the flow."""
    workspace.run("dvc", "repro")
    return workspace.hashes(*OUTPUTS)


def test_a_killed_run_resumes_to_the_same_hashes(
    uninterrupted: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = make_workspace(tmp_path_factory.mktemp("killed"))
    add_demo(other)
    said = press_ctrl_c_when(other, "pseudo_label", lambda: len(cached(other, "pseudo_label")) >= 3)
    (line,) = [line for line in said.splitlines() if "error" in line]
    assert "stopped by Ctrl-C; run the same command again" in line
    assert "Traceback" not in said
    done = cached(other, "pseudo_label")
    assert done, "nothing was kept of the killed stage"
    stamps = {path: path.stat().st_mtime_ns for path in done}
    kill_when(other, "distill", lambda: bool(cached(other, "distill", "*.safetensors")))
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    other.iml("run")
    assert other.hashes(*OUTPUTS) == uninterrupted
    store = f"sqlite:///{other.root}/.state/mlflow/mlflow.db"
    client = MlflowClient(store, store)  # a registry that an earlier test has set would win
    experiment = client.get_experiment_by_name("boxpromptiml").experiment_id
    runs = client.search_runs([experiment], order_by=["attributes.start_time"])
    assert [run.info.status for run in runs] == ["KILLED", "KILLED", "FINISHED"]
    assert client.get_model_version("boxpromptiml", "1").run_id == runs[-1].info.run_id
    curve = client.get_metric_history(runs[-1].info.run_id, "train_loss")
    # Epochs from before the kill are added last, when the version is registered.
    assert sorted(point.step for point in curve) == [1, 2, 3]
    assert not processes(other)
    shutil.rmtree(other.root, ignore_errors=True)


def test_ctrl_c_ends_every_stage(campaigns: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    if not campaigns:
        pytest.skip("only with --campaigns: starts every stage twice")
    other = make_workspace(tmp_path_factory.mktemp("stopped"))
    add_demo(other)
    for stage in ("index", "prepare", "validate", "distill", "evaluate", "export"):
        press_ctrl_c_when(other, stage, lambda: True)
    other.iml("run")
