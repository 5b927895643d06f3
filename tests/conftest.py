"""Shared by all tests: quiet telemetry, one thread a worker, the campaign switch, an S3 server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import campaign_report
import pytest
from browsers import Browser, Pages, chromium

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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def free_port() -> int:
    """A loopback port that nobody listens on."""
    return _free_port()


@pytest.fixture(scope="session")
def _s3_server() -> Iterator[str]:
    """The address of a real S3 server process, whose lists come in pages of twenty."""
    port = str(_free_port())
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port]
    environment = {**os.environ, "MOTO_S3_DEFAULT_MAX_KEYS": "20"}
    silent = subprocess.DEVNULL
    with subprocess.Popen(command, env=environment, stdout=silent, stderr=silent) as process:
        try:
            _wait_for(f"http://127.0.0.1:{port}")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def _wait_for(address: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(address, timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, f"nothing answers at {address}"
            time.sleep(0.2)


@pytest.fixture
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Makes a file system of some size, or makes it larger: always the same."""
    folder = tmp_path_factory.mktemp("small")

    def disk(size: str) -> Path:
        remount = "remount," if folder.is_mount() else ""
        mount = ["mount", "-t", "tmpfs", "-o", f"{remount}size={size}", "tmpfs", str(folder)]
        if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("needs root, and leave to mount")
        return folder

    yield disk
    if folder.is_mount():
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def s3(_s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an S3 server that the environment names, as its users do; make a bucket."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", _s3_server)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return _s3_server


@pytest.fixture(scope="module")
def _browser() -> Iterator[Browser]:
    """Closed with its module: until then its driver's event loop is this thread's."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def browse(_browser: Browser) -> Iterator[Pages]:
    """Opens pages in a real browser; a script's error or a refused load fails the test."""
    pages = Pages(_browser)
    yield pages
    pages.close()
    assert not pages.complaints


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
