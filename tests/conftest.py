"""Shared by all tests: quiet telemetry, one thread a worker, the campaign switch."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import campaign_report
import pytest

from flows.settings import configure

# Before torch, MLflow or Prefect are imported by any test.
configure()
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--campaigns` runs the long campaigns in full instead of their seeded samples."""
    parser.addoption("--campaigns", action="store_true", help="run the long campaigns in full")
    parser.addoption("--report", type=Path, help="write what the campaigns counted to this file")


@pytest.fixture(scope="session")
def campaigns(request: pytest.FixtureRequest) -> bool:
    """True under `make verify`."""
    return bool(request.config.getoption("--campaigns"))


@pytest.fixture
def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may touch the developer's own state folder."""
    monkeypatch.setenv("IML_STATE", str(tmp_path_factory.mktemp("state")))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """`--report FILE`: a table of what the campaigns counted."""
    path = config.getoption("--report")
    if path is None:
        return
    outcomes = ("passed", "failed")
    reports = [r for o in outcomes for r in terminalreporter.getreports(o) if r.when == "call"]
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    campaign_report.write(path, reports, commit.stdout.strip() or "unknown")
