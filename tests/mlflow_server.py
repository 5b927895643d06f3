"""A process of `mlflow server` for tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    address: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """Kill -9 all of it."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)
        self.process.wait()


@contextmanager
def mlflow_server(folder: Path, store: Path, **environment: str) -> Iterator[Server]:
    """Started on a free port; killed in the end.

    Args:
        folder: where it keeps database, files and log.
        store: an SQLite store, of which it gets a copy.
        environment: further settings.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shutil.copyfile(store, folder / "server.db")
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
        "--backend-store-uri", f"sqlite:///{folder}/server.db", "--workers", "1",
        "--artifacts-destination", str(folder / "served"),
    ]  # fmt: skip
    with open(folder / "server.log", "wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    made = Server(f"http://127.0.0.1:{port}", process)
    try:
        _wait(made, folder / "server.log")
        yield made
    finally:
        made.kill()


def _wait(server: Server, log: Path) -> None:
    limit = time.monotonic() + 150
    while time.monotonic() < limit and server.process.poll() is None:
        try:
            with urllib.request.urlopen(f"{server.address}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"mlflow server did not start: {log.read_text()[-2000:]}")
