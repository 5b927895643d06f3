"""A process of `mlflow models serve`, and requests to it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def serving(model: Path, python: Path, folder: Path) -> Iterator[str]:
    """Address of a server of a model, started without a network's or the project's help."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [python, "-m", "mlflow", "models", "serve", "-m", model]
    environment = {
        **os.environ,
        "PYTHONPATH": "",
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "HF_HUB_OFFLINE": "1",
        # Nothing outside this machine can be reached through it.
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [*command, "--env-manager", "local", "--port", port, "--workers", "1"],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        limit = time.monotonic() + 150
        while not alive(f"http://127.0.0.1:{port}"):
            running = process.poll() is None and time.monotonic() < limit
            assert running, (folder / "log").read_text()[-3000:]
            time.sleep(0.3)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def alive(address: str) -> bool:
    """Whether the server answers."""
    try:
        with urllib.request.urlopen(f"{address}/ping", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def ask(address: str, body: Any, kind: str = "application/json") -> tuple[int, Any]:
    """The status and the document of an answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(
        f"{address}/invocations", data=data, headers={"Content-Type": kind}
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        text = error.read().decode().strip()
        assert "\n" not in text  # one line
        return error.code, json.loads(text) if text.startswith("{") else text


def rows(*values: Any) -> dict[str, Any]:
    """A request of one photo a row."""
    return {"dataframe_split": {"columns": ["image"], "data": [[value] for value in values]}}
