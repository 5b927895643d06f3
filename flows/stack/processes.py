"""The servers of a stack under supervisord, which restarts what dies and keeps the logs.

`.state/stack/supervisor` (mode 0700) holds its configuration, socket and own log. No secret is in
there: `flows.stack.services` gives each server its secrets as it starts.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import SupervisorTransport

from components.core.errors import InputError
from components.core.files import write_text
from components.workspace.processes import end_group

_SILENT = "it printed nothing"
_LONGEST = 107 - len(".1234567")  # bytes of a UNIX socket's path, less what supervisord appends
_SUPERVISORD = """\
[unix_http_server]
file = %(here)s/socket
chmod = 0700

[supervisord]
logfile = %(here)s/supervisord.log
pidfile = %(here)s/supervisord.pid
umask = {umask:03o}
user = {user}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl = unix://%(here)s/socket
"""
# PostgreSQL stops on SIGINT without waiting for its clients.
_PROGRAM = """
[program:{name}]
command = {python} -m flows.stack.services {name}
priority = {priority}
autostart = false
autorestart = true
startretries = 10
stopsignal = {signal}
stopwaitsecs = 20
stopasgroup = true
redirect_stderr = true
stdout_logfile = %(here)s/../logs/{name}.log
"""


@dataclass(frozen=True)
class Service:
    """One server.

    Attributes:
        command: with absolute program.
        environment: all of it; secrets go here, never on the command line, which all may read.
        healthy: whether it answers.
        address: where it listens, if it does.
        user: the account it runs under; None is ours.
    """

    name: str
    command: list[str]
    environment: Mapping[str, str]
    healthy: Callable[[], bool]
    address: str = ""
    user: str | None = None


class Processes:
    """The processes of one stack's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = Path(os.path.abspath(folder))
        self._home = self._folder / "supervisor"
        self._socket = self._home / "socket"
        self._url = f"unix://{self._socket}"

    def _call(self, method: str, *arguments: object) -> Any:
        """Ask supervisord; raises OSError where it does not run, Fault where it refuses."""
        transport = SupervisorTransport(serverurl=self._url)
        try:
            proxy = xmlrpc.client.ServerProxy("http://supervisord", transport=transport)
            return getattr(proxy.supervisor, method)(*arguments)
        finally:
            transport.close()

    def launch(self, names: Sequence[str]) -> None:
        """Start supervisord for these services unless it runs.

        Raises InputError when the folder's path is too long, or supervisord does not start.
        """
        with suppress(OSError):
            self._call("getPID")
            return
        for name in names:
            self.end_leftovers(name)
        if len(os.fsencode(self._socket)) > _LONGEST:
            hint = "set IML_STATE to a shorter path"
            raise InputError("too long for a UNIX socket", where=str(self._socket), hint=hint)
        for folder in (self._home, self._folder / "logs"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.umask(umask := os.umask(0o077))
        text = _SUPERVISORD.format(umask=umask, user=os.getuid())
        python = shlex.quote(sys.executable).replace("%", "%%")
        for priority, name in enumerate(names):
            signal = "INT" if name == "postgres" else "TERM"
            text += _PROGRAM.format(name=name, priority=priority, python=python, signal=signal)
        config = self._home / "supervisord.conf"
        write_text(config, text)
        daemon = [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)]
        done = subprocess.run(daemon, capture_output=True, text=True, check=False)
        if done.returncode:
            output = (done.stderr or done.stdout).strip().splitlines() or [_SILENT]
            raise InputError(f"supervisord does not start: {output[0]}", where=str(config))

    def pid(self, name: str) -> int | None:
        """The process of a service, or None when it does not run."""
        with suppress(OSError):
            return self._call("getProcessInfo", name)["pid"] or None
        return None

    def log(self, name: str) -> Path:
        """The log of a service."""
        return self._folder / "logs" / f"{name}.log"

    def start(self, name: str) -> None:
        """Start a service that is down; supervisord must be running."""
        self.stop(name)  # its next attempt may be due in a while
        with suppress(xmlrpc.client.Fault):  # ended at once: `wait` says why
            self._call("startProcess", name, False)

    def wait(self, service: Service, seconds: float) -> None:
        """Return once a service answers; if it ends or never does, stop it and raise InputError.

        One that ended may run again by now, as another process.
        """
        limit = time.monotonic() + seconds
        log, first = self.log(service.name), self.pid(service.name)
        while not service.healthy():
            if first is None or self.pid(service.name) != first:
                what = f"{service.name} ended: {_last_line(log)}"
            elif time.monotonic() > limit:
                what = f"{service.name} does not answer after {seconds:.0f} s"
            else:
                time.sleep(0.2)
                continue
            self.stop(service.name)
            raise InputError(what, where=str(log), hint="see this log, then `iml stack up` again")

    def stop(self, name: str) -> None:
        """Stop a service and its process group, if it runs."""
        with suppress(OSError, xmlrpc.client.Fault):
            self._call("stopProcess", name)

    def shutdown(self) -> None:
        """Stop every service, last first, and supervisord."""
        with suppress(OSError):
            end_group(self._call("getPID"), patience=120.0)

    def end_leftovers(self, name: str) -> bool:
        """End processes that a killed service or supervisord has left, and that hold its port.

        Of the worker only the process itself: its flow runs continue. True where there were any.
        """
        mark = {"SUPERVISOR_SERVER_URL": self._url, "SUPERVISOR_PROCESS_NAME": name}.items()
        left = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                ours = process.pid != os.getpid() and mark <= process.environ().items()
                if ours and (name != "worker" or name in process.cmdline()):
                    process.terminate()
                    left.append(process)
        for process in psutil.wait_procs(left, timeout=20.0)[1]:
            with suppress(psutil.Error):
                process.kill()
        return bool(left)


def _last_line(log: Path) -> str:
    with suppress(OSError):
        if lines := log.read_text(errors="replace").strip().splitlines():
            return lines[-1][:300]
    return _SILENT
