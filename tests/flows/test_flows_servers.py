"""The server a run talks to: reachable or named; what a killed run left is ended."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from components.errors import InputError
from flows.servers import end_orphans, require_server


def test_no_address_needs_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", None)  # any attempt would fail
    assert require_server() is None


@pytest.mark.parametrize("address", ["file:///etc/passwd", "localhost:4200"])
def test_what_is_no_address_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", address)
    with pytest.raises(InputError, match="not an address"):
        require_server()


def test_a_dead_server_is_one_line(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port}/api")
    with pytest.raises(InputError, match=r"PREFECT_API_URL: the Prefect server does not answer"):
        require_server()


asked: list[str] = []


class Healthy(http.server.BaseHTTPRequestHandler):
    """Answers as Prefect's health check does."""

    def do_GET(self) -> None:
        asked.append(self.path)
        self.send_response(200 if self.path == "/api/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay silent."""


def test_a_living_server_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    asked.clear()
    with http.server.HTTPServer(("127.0.0.1", 0), Healthy) as server:
        threading.Thread(target=server.handle_request).start()
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{server.server_port}/api/")
        require_server()
    assert asked == ["/api/health"]


# A process whose parent has ended, as a server in the background has none.
_ORPHAN = """
import subprocess, sys
sleep = [sys.executable, "-c", "import time; time.sleep(600)", "prefect.server.api"]
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
print(subprocess.Popen(sleep, **quiet, start_new_session=True).pid)
"""


def _orphan(**env: str) -> psutil.Process:
    command = [sys.executable, "-c", _ORPHAN]
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, check=True)
    process = psutil.Process(int(done.stdout))
    while process.ppid() != 1:
        time.sleep(0.01)
    return process


def test_servers_of_killed_runs_are_ended_and_a_persons_own_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IML_RUN", raising=False)
    own = _orphan()
    end_orphans()
    assert os.environ["IML_RUN"] == "1"
    left = _orphan()
    try:
        end_orphans()
        psutil.wait_procs([left], timeout=10)
        assert not left.is_running() or left.status() == psutil.STATUS_ZOMBIE
        assert own.is_running()
    finally:
        own.kill()
