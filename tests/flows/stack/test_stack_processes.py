"""Servers under supervisord: what dies comes back, what cannot start is reported."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from components.core.errors import InputError
from flows.stack import postgres, services
from flows.stack.processes import Processes
from flows.stack.settings import Settings

SECRETS = ("IML_POSTGRES_PASSWORD", "AWS_SECRET_ACCESS_KEY", "PREFECT_API_AUTH_STRING")


@pytest.fixture
def processes(settings: Settings, free_port: int) -> Iterator[Processes]:
    """With supervisord and PostgreSQL running."""
    made = Processes(settings.folder)
    postgres.prepare(settings)
    made.launch(services.NAMES)
    services._start(made, settings, services.services(settings)[:1], print)
    try:
        yield made
    finally:
        services.down()


def until(true: Callable[[], object]) -> None:
    limit = time.monotonic() + 20
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.1)


def test_a_killed_server_comes_back_by_itself(settings: Settings, processes: Processes) -> None:
    first = psutil.Process(processes.pid("postgres"))
    _check_private(settings, first)
    # Not one that has just been started, which supervisord would start again in any case.
    until(lambda: processes._call("getProcessInfo", "postgres")["statename"] == "RUNNING")
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: processes.pid("postgres") not in (None, first.pid) and postgres.ready(settings))
    assert [row.healthy for row in services.status()] == [True, False, False, False, False]
    processes.stop("postgres")
    (settings.postgres_data / "PG_VERSION").write_text("99\n")
    with pytest.raises(InputError, match=r"postgres.log: postgres ended: .*version 99"):
        services._start(processes, settings, services.services(settings)[:1], print)
    assert processes.pid("postgres") is None


def _check_private(settings: Settings, server: psutil.Process) -> None:
    """Nobody else controls the servers or reads a secret."""
    home = settings.folder / "supervisor"
    assert [path.stat().st_mode & 0o777 for path in (home, home / "socket")] == [0o700] * 2
    assert (settings.folder / "logs").stat().st_mode & 0o777 == 0o700
    supervisor = server.parent()
    told = (home / "supervisord.conf").read_text() + " ".join(server.cmdline())
    told += str({**supervisor.environ(), **server.environ()})
    assert not [name for name in SECRETS if settings.environment[name] in told]
    assert not supervisor.net_connections(kind="inet")
    assert {c.laddr.ip for c in server.net_connections(kind="inet")} == {"127.0.0.1"}


@pytest.mark.parametrize("action", ["down", "up"])
def test_servers_of_a_killed_supervisor_are_ended(
    action: str, settings: Settings, processes: Processes
) -> None:
    server = psutil.Process(processes.pid("postgres"))
    os.kill(server.ppid(), signal.SIGKILL)
    until(lambda: processes.pid("postgres") is None)
    assert postgres.ready(settings)
    if action == "down":
        assert [services.down(), services.down()] == [["postgres"], []]
    else:
        processes.launch(services.NAMES)
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE
    assert not postgres.ready(settings)


def test_a_folder_too_deep_for_a_socket_is_one_line(settings: Settings) -> None:
    with pytest.raises(InputError, match="too long for a UNIX socket"):
        Processes(settings.folder / ("deep" * 25)).launch(services.NAMES)
