"""Servers as processes of their own: started once, known by pid and start time, ended as a group.

The list of what runs is `.state/stack/processes.json`; only what stands there is ever ended.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from components.core.errors import InputError
from components.core.files import read_json, write_json
from components.workspace.processes import birth, end_group


@dataclass(frozen=True)
class Service:
    """One server.

    Attributes:
        command: with absolute program.
        environment: all of it; secrets go here, never on the command line, which all may read.
        healthy: whether it answers.
        user: the account it runs under; None is ours.
        ending: the signal that ends it politely.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    healthy: Callable[[], bool]
    user: str | None = None
    ending: signal.Signals = signal.SIGTERM


class Processes:
    """The processes of one stack's folder."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "processes.json"
        self._logs = folder / "logs"

    def _known(self) -> dict[str, dict[str, Any]]:
        return read_json(self._file) if self._file.exists() else {}

    def pid(self, name: str) -> int | None:
        """The process of a service, or None when it does not run."""
        known = self._known().get(name)
        if known is None:
            return None
        with suppress(psutil.Error):
            process = psutil.Process(int(known["pid"]))
            alive = birth(process.pid) == known.get("birth")
            if alive and process.status() != psutil.STATUS_ZOMBIE:
                return process.pid
        return None

    def log(self, name: str) -> Path:
        """Where a service writes what it has to say."""
        return self._logs / f"{name}.log"

    def start(self, service: Service) -> None:
        """Start a service in a session of its own."""
        self._logs.mkdir(parents=True, exist_ok=True)
        account: dict[str, Any] = {"user": service.user, "group": service.user, "extra_groups": []}
        with open(self.log(service.name), "ab") as log:
            process = subprocess.Popen(
                service.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(service.environment),
                cwd="/" if service.user else None,
                start_new_session=True,
                **(account if service.user else {}),
            )
        row = {service.name: {"pid": process.pid, "birth": birth(process.pid)}}
        write_json(self._file, {**self._known(), **row})

    def wait(self, service: Service, seconds: float) -> None:
        """Return once a service answers; raises InputError when it ends or stays silent."""
        limit = time.monotonic() + seconds
        log = self.log(service.name)
        while not service.healthy():
            if self.pid(service.name) is None:
                raise InputError(
                    f"{service.name} ended: {_last_line(log)}", where=str(log), hint="see this log"
                )
            if time.monotonic() > limit:
                raise InputError(
                    f"{service.name} does not answer after {seconds:.0f} s",
                    where=str(log),
                    hint="see this log, then `iml stack down` and `iml stack up`",
                )
            time.sleep(0.2)

    def stop(self, name: str, ending: signal.Signals = signal.SIGTERM) -> bool:
        """End a service and all it started; False when it did not run."""
        pid = self.pid(name)
        if pid is not None:
            end_group(pid, ending, patience=20.0)
        left = {key: row for key, row in self._known().items() if key != name}
        write_json(self._file, left)
        return pid is not None


def _last_line(log: Path) -> str:
    """What a server said last."""
    with suppress(OSError):
        lines = log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"
    return "it said nothing"
