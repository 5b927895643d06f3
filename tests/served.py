"""A real `iml serve` in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from project import ROOT

_PROGRAM = "from flows.cli.main import main; main()"


@dataclass
class Served:
    """A server that answers."""

    address: str
    process: subprocess.Popen[str]
    log: Path  # its stderr

    def metric(self, name: str) -> float:
        """A sample of `/metrics`, with its labels as they are written there; 0 if there is none."""
        lines = httpx.get(f"{self.address}/metrics").text.splitlines()
        found = [line.removeprefix(f"{name} ") for line in lines if line.startswith(f"{name} ")]
        return float(found[0]) if found else 0.0


@contextmanager
def serving(model: object, folder: Path, *options: str, **environment: str) -> Iterator[Served]:
    """Started as people do, on a free port; killed in the end. `folder` keeps its stderr."""
    command = ["serve", "--model", str(model), "--port", "0", *options]
    with open(folder / "stderr.txt", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *command],
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        line = process.stdout.readline()
        assert line.startswith("http://"), (folder / "stderr.txt").read_text()[-3000:]
        yield Served(line.split()[0].rstrip("/"), process, folder / "stderr.txt")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
