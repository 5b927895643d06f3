"""The five servers of the stack, and how they are started, checked and stopped together.

`python -m flows.stack.services SERVICE`, which supervisord runs, becomes that server.
"""

from __future__ import annotations

import base64
import json
import os
import pwd
import socket
import sys
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from components.core.errors import CheckError, ImlError, InputError
from components.core.files import held
from flows.stack import accounts, postgres
from flows.stack import settings as places
from flows.stack.processes import Processes, Service
from flows.stack.settings import BUCKETS, POOL, Settings

NAMES = ("postgres", "s3", "mlflow", "prefect", "worker")
# No concern of a run.
_OWNERS = (
    "IML_POSTGRES_PASSWORD",
    "PREFECT_SERVER_API_AUTH_STRING",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
    *(name for account, name in accounts.PASSWORDS.items() if account != accounts.RUNS),
)
_PATIENCE = 180.0  # seconds for a server to answer; MLflow takes 20-40 on a small machine


@dataclass(frozen=True)
class Status:
    """One server as it is now."""

    service: str
    pid: int | None
    running: bool
    healthy: bool
    address: str
    log: str


def up(progress: Callable[[str], None]) -> Settings:
    """Start what is not running and wait until everything answers; what runs is left alone.

    Args:
        progress: called with a line for each server that starts, and for each that answers.

    Raises:
        InputError: a program is missing, a port is taken, a server does not come up.
    """
    settings = places.load_or_make()
    with _held(settings):
        processes = Processes(settings.folder)
        (settings.folder / "s3").mkdir(mode=0o700, exist_ok=True)
        postgres.prepare(settings)
        processes.launch(NAMES)
        settings = _settled(processes, settings, progress)
        each = services(settings)
        _start(processes, settings, each[:2], progress)
        postgres.make_databases(settings)
        postgres.make_roles(settings)
        make_buckets(settings.environment)
        if processes.pid("mlflow") is None:
            accounts.make(settings.database("mlflow"), settings.environment)
        _start(processes, settings, each[2:4], progress)
        _start(processes, settings, each[4:], progress)
    return settings


def down() -> list[str]:
    """Stop exactly what `up` started, last first; gives the names of what ran."""
    settings = places.load()
    if settings is None:
        return []
    with _held(settings):
        processes = Processes(settings.folder)
        running = [name for name in reversed(NAMES) if processes.pid(name)]
        processes.shutdown()
        left = [name for name in reversed(NAMES) if processes.end_leftovers(name)]
    return running or left


def status() -> list[Status]:
    """Every server; none where there is no stack."""
    settings = places.load()
    if settings is None:
        return []
    processes = Processes(settings.folder)
    found = []
    for service in services(settings):
        pid = processes.pid(service.name)
        running = pid is not None
        log = str(processes.log(service.name))
        healthy = running and service.healthy()
        found.append(Status(service.name, pid, running, healthy, service.address, log))
    return found


def rotate(progress: Callable[[str], None]) -> Settings:
    """Make new passwords and keys for everything; restarts the servers that hold them.

    Raises CheckError when PostgreSQL, which must learn its new password, does not run.
    """
    old = places.load()
    if old is None or not postgres.ready(old):
        raise CheckError("the stack is not running", hint="start it with `iml stack up`")
    with _held(old):
        processes = Processes(old.folder)
        for name in reversed(NAMES[1:]):  # all but PostgreSQL
            processes.stop(name)
        new = places.propose(old)
        postgres.change_password(old, new)
        places.adopt(new)
    return up(progress)


def _settled(processes: Processes, settings: Settings, progress: Callable[[str], None]) -> Settings:
    """The settings in force; after a rotation that was cut off PostgreSQL knows which."""
    proposal = places.proposed()
    if proposal is None:
        return settings
    _start(processes, settings, services(settings)[:1], progress)
    return places.adopt(proposal if postgres.accepts(proposal) else settings)


def _held(settings: Settings) -> AbstractContextManager[None]:
    """One `up` or `down` at a time."""
    return held(settings.folder / "lock", "another `iml stack` is running")


def _start(
    processes: Processes, settings: Settings, some: list[Service], progress: Callable[[str], None]
) -> None:
    """Start some servers at once, then wait for all of them."""
    for service in some:
        if processes.pid(service.name) is None:
            if service.name in places.PORTS:
                _check_free(settings, service.name)
            processes.start(service.name)
            progress(f"{service.name}: starting")
    for service in some:
        processes.wait(service, _PATIENCE)
        progress(f"{service.name}: up")


def _check_free(settings: Settings, name: str) -> None:
    port = settings.port(name)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise InputError(
                f"port {port} of {name} is taken by another program",
                where=str(settings.file),
                hint=f"change IML_{name.upper()}_PORT and the addresses with {port} there",
            ) from None


def services(settings: Settings) -> list[Service]:
    """All of them, each after those that it needs."""
    client = {**_inherited(), **settings.environment}
    tool = Path(sys.executable).parent
    api = settings.environment["PREFECT_API_URL"]
    address = {name: settings.address(name) for name in places.PORTS}
    marks = {name: value for name, value in client.items() if name.startswith("SUPERVISOR_")}
    server_only = {name: value for name, value in client.items() if name != "PREFECT_API_URL"}
    return [
        Service(
            "postgres",
            postgres.command(settings),
            {**marks, "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            lambda: postgres.ready(settings),
            address["postgres"].replace("http", "postgresql"),
            user=postgres.account(),
        ),
        Service(
            "s3",
            [str(_s3_python()), str(Path(__file__).with_name("s3_server.py"))],
            {
                **client,
                "GATEWAY_PORT": str(settings.port("s3")),
                "S3_DATA_DIR": str(settings.folder / "s3"),
            },
            lambda: _answers(f"{address['s3']}/_ministack/health"),
            address["s3"],
        ),
        Service(
            "mlflow",
            [str(tool / "mlflow"), "server", "--host", "127.0.0.1",
             "--port", str(settings.port("mlflow")), "--app-name", "basic-auth",
             "--workers", "1", "--artifacts-destination", "s3://mlflow"],
            {
                **client,
                **settings.owner(),
                "MLFLOW_BACKEND_STORE_URI": "postgresql:///mlflow",
                "MLFLOW_AUTH_CONFIG_PATH": str(accounts.CONFIG),
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            },
            lambda: _answers(f"{address['mlflow']}/health"),
            address["mlflow"],
        ),
        Service(
            "prefect",
            [str(tool / "prefect"), "server", "start", "--host", "127.0.0.1",
             "--port", str(settings.port("prefect"))],
            {
                **server_only,
                "PREFECT_API_DATABASE_CONNECTION_URL": settings.database(
                    "prefect", "postgresql+asyncpg"
                ),
                "PREFECT_SERVER_UI_API_URL": api,
            },
            lambda: _answers(f"{api}/health"),
            address["prefect"],
        ),
        Service(
            "worker",
            [str(tool / "prefect"), "worker", "start", "--pool", POOL, "--type", "process",
             "--name", "stack"],
            {
                # A run that somebody asks for waits that long at most, by default ten seconds.
                "PREFECT_WORKER_QUERY_SECONDS": "2",
                **{name: value for name, value in client.items() if name not in _OWNERS},
            },
            lambda: _online(settings),
        ),
    ]  # fmt: skip


def _inherited() -> dict[str, str]:
    """Our environment, with this interpreter's commands first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}


def _s3_python() -> Path:
    """The interpreter of the S3 server's own environment."""
    python = Path(sys.prefix) / "s3/bin/python"
    if not python.exists():
        raise InputError(
            "the S3 server is not installed",
            where=str(python.parent),
            hint="run `make install`, or see infra/s3-server.txt",
        )
    return python


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=3).close()  # noqa: S310
    except OSError:
        return False
    return True


def _online(settings: Settings) -> bool:
    """Whether the worker has reported to the Prefect server."""
    environment = settings.environment
    token = base64.b64encode(environment["PREFECT_API_AUTH_STRING"].encode()).decode()
    request = urllib.request.Request(  # noqa: S310
        f"{environment['PREFECT_API_URL']}/work_pools/{POOL}/workers/filter",
        data=b"{}",
        headers={"Content-Type": "application/json", "Authorization": f"Basic {token}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=3) as answer:  # noqa: S310
            workers = json.load(answer)
    except OSError:
        return False
    return any(w["name"] == "stack" and w["status"] == "ONLINE" for w in workers)


def make_buckets(environment: Mapping[str, str] = os.environ) -> None:
    """Create the stack's buckets that are missing.

    Args:
        environment: whose AWS_* variables name the server and hold its keys.
    """
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=environment.get("AWS_ENDPOINT_URL"),
        aws_access_key_id=environment.get("AWS_ACCESS_KEY_ID"),
        aws_secret_access_key=environment.get("AWS_SECRET_ACCESS_KEY"),
        region_name=environment.get("AWS_DEFAULT_REGION"),
    )
    known = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
    for name in sorted(set(BUCKETS) - known):
        client.create_bucket(Bucket=name)


def main(name: str) -> None:
    """Replace this process by a server of the stack, with the settings now in force."""
    settings = places.load()
    if settings is None:
        sys.exit("there is no stack here")
    try:
        service = next(s for s in services(settings) if s.name == name)
    except ImlError as error:
        sys.exit(error.line())
    Processes(settings.folder).end_leftovers(name)
    if service.user:
        account = pwd.getpwnam(service.user)
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
        os.chdir("/")
    os.execve(service.command[0], service.command, service.environment)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1])
