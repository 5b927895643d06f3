"""PostgreSQL of the stack: its programs, its folder, its account, its databases.

PostgreSQL refuses to run as root; under root it runs as the account `postgres`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from components.core.errors import InputError, UnavailableError, brief
from flows.stack.settings import DATABASES, ROLES, USER, Settings

_DEBIAN = Path("/usr/lib/postgresql")


def programs() -> Path:
    """The folder of PostgreSQL's server programs; raises InputError when there is none."""
    found = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    if path := shutil.which("initdb"):
        return Path(path).resolve().parent
    raise InputError(
        "PostgreSQL's server programs are missing", hint="install them: apt-get install postgresql"
    )


def account() -> str | None:
    """The account the server runs under, None for our own."""
    if os.getuid():
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        raise InputError(
            "PostgreSQL does not run as root and there is no account `postgres`",
            hint="run `iml stack` as an ordinary user, or install Debian's postgresql",
        ) from None


def command(settings: Settings) -> list[str]:
    """The server on loopback TCP alone, without a socket in the file system."""
    options = ("-h", "127.0.0.1", "-p", str(settings.port("postgres")), "-k", "")
    return [str(programs() / "postgres"), "-D", str(settings.postgres_data), *options]


def ready(settings: Settings) -> bool:
    """Whether the server accepts connections."""
    check = [str(programs() / "pg_isready"), "-q", "-h", "127.0.0.1"]
    port = str(settings.port("postgres"))
    return subprocess.run([*check, "-p", port], check=False, capture_output=True).returncode == 0


def prepare(settings: Settings) -> None:
    """Make the server's folder where there is none; raises InputError for what is missing."""
    _driver()
    data = settings.postgres_data
    making = data.with_name(f".{data.name}.making")  # exists while initdb is at work
    if making.exists():
        shutil.rmtree(data, ignore_errors=True)
    elif (data / "PG_VERSION").is_file():
        return
    user = account()
    data.parent.mkdir(parents=True, exist_ok=True)
    data.mkdir(mode=0o700, exist_ok=True)
    if any(data.iterdir()):  # never to be mistaken for what a killed initdb left
        raise InputError("is not empty", where=str(data), hint="name another folder")
    making.touch()
    if user:
        shutil.chown(data, user, user)
        _check_reachable(data, user)
    with tempfile.NamedTemporaryFile("w", dir=data.parent, prefix=".password-") as password:
        password.write(settings.environment["IML_POSTGRES_PASSWORD"])
        password.flush()
        if user:
            shutil.chown(password.name, user, user)
        options = ["-U", USER, "-E", "UTF8", "--auth=scram-sha-256", f"--pwfile={password.name}"]
        made = _as(user, [str(programs() / "initdb"), "-D", str(data), *options])
    making.unlink()
    if made.returncode:
        output = (made.stderr.strip() or made.stdout.strip()).splitlines()
        raise InputError(f"initdb failed: {output[-1] if output else ''}", where=str(data))


def _check_reachable(data: Path, user: str) -> None:
    if _as(user, ["test", "-w", str(data)]).returncode:
        raise InputError(
            f"the account {user} cannot reach this folder",
            where=str(data),
            hint="set IML_POSTGRES_DATA to a path below a folder that every account may enter",
        )


def _as(user: str | None, command: list[str]) -> subprocess.CompletedProcess[str]:
    change: Mapping[str, object] = {"user": user, "group": user, "extra_groups": []} if user else {}
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        command, capture_output=True, text=True, cwd="/", check=False, **change
    )


def make_databases(settings: Settings) -> None:
    """Create the databases of ledger, MLflow and Prefect that are missing."""
    sql = _driver().sql
    with _cursor(settings) as cursor:
        cursor.execute("SELECT datname FROM pg_database")
        known = {row[0] for row in cursor.fetchall()}
        for name in sorted(set(DATABASES) - known):
            cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def make_roles(settings: Settings) -> None:
    """Give the ledger its schema, and the roles their passwords and what they may do there."""
    from components.registry.ledger import Ledger

    sql = _driver().sql
    with _cursor(settings) as cursor:
        cursor.execute("SELECT rolname FROM pg_roles")
        known = {row[0] for row in cursor.fetchall()}
        for role, password in ROLES.items():
            name = sql.Identifier(role)
            if role not in known:
                cursor.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
            given = sql.Literal(settings.environment[password])
            cursor.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(name, given))
        for database in set(DATABASES) - {"ledger"}:
            closed = sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC")
            cursor.execute(closed.format(sql.Identifier(database)))
    Ledger(settings.database("ledger"))


def accepts(settings: Settings) -> bool:
    """Whether the server, which must be running, accepts this password."""
    try:
        with _cursor(settings):
            return True
    except (InputError, UnavailableError):
        return False


def change_password(old: Settings, new: Settings) -> None:
    """Give the server, which must be running, the new password."""
    sql = _driver().sql
    statement = sql.SQL("ALTER ROLE {} PASSWORD {}")
    password = sql.Literal(new.environment["IML_POSTGRES_PASSWORD"])
    with _cursor(old) as cursor:
        cursor.execute(statement.format(sql.Identifier(USER), password))


@contextmanager
def _cursor(settings: Settings) -> Iterator[Any]:
    """A cursor on the server's own database, each statement by itself; raises InputError."""
    try:
        connection = _driver().connect(settings.database("postgres"), connect_timeout=5)
    except _driver().OperationalError as error:
        raise InputError(f"PostgreSQL refuses ({brief(error)})", where=str(settings.file)) from None
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


def _driver() -> ModuleType:
    """The optional client of PostgreSQL; raises InputError where it is missing."""
    try:
        import psycopg2
        import psycopg2.sql
    except ImportError:
        raise InputError(
            "PostgreSQL's Python client psycopg2 is missing",
            hint="install this project with its extra `postgres`, or run `make install`",
        ) from None
    return cast(ModuleType, psycopg2)
