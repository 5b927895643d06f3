"""SQL databases by URL: one engine setup, quick and clear when they cannot be reached.

Used for the ledger and to probe MLflow's own store. SQLite serves one machine, PostgreSQL a team.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from sqlalchemy import URL, Engine, NullPool, create_engine, event, make_url, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import ArgumentError, IntegrityError, OperationalError, SQLAlchemyError

from components.core.errors import InputError, UnavailableError

_REFUSED = ("authentication failed", "readonly database")  # would be the same again
_WAIT = 30  # seconds a writer waits for another one
_EXAMPLES = "use sqlite:////folder/file.db or postgresql://user:password@host/database"


def environment(name: str, default: str) -> str:
    """An address from the environment; empty counts as unset."""
    return os.environ.get(name, "").strip() or default


def safe_name(url: str | URL) -> str:
    """The URL without password and options; nothing of a text that is no URL."""
    try:
        return make_url(url).set(password=None, query={}).render_as_string()
    except (ArgumentError, ValueError):
        return "(unreadable URL)"


def scrub(message: str, url: str | URL) -> str:
    """A driver's message on one line, with every secret of the URL masked."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return "(message withheld: the URL is unreadable)"
    values = [value for value in parsed.query.values() if isinstance(value, str)]
    values.append(parsed.password or "")
    secrets = {form(value) for value in values for form in (str, quote, quote_plus)} - {""}
    for secret in sorted(secrets, key=len, reverse=True):
        message = message.replace(secret, "***")
    return " ".join(message.split())


def _parse(url: str, setting: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The text may hold a password, so it is not repeated.
        raise InputError("not a database URL", where=setting, hint=_EXAMPLES) from None
    if (kind := parsed.get_backend_name()) not in ("sqlite", "postgresql"):
        raise InputError(f"{kind!r} databases are not supported", where=setting, hint=_EXAMPLES)
    return parsed


@contextmanager
def _clear(url: URL, setting: str) -> Iterator[None]:
    """Turn a database's or file system's refusal into one clear line without secrets."""
    try:
        yield
    except IntegrityError:
        raise
    except (SQLAlchemyError, OSError) as error:
        message = scrub(str(getattr(error, "orig", None) or error), url)[:300]
        away = isinstance(error, OperationalError) and not any(map(message.count, _REFUSED))
        kind = UnavailableError if away else InputError
        what = f"the database does not answer ({message})"
        raise kind(what, where=safe_name(url), hint=f"check {setting}") from None


def connect(url: str, setting: str) -> Engine:
    """An engine for a SQLite or PostgreSQL URL; makes a SQLite file's folder, touches nothing else.

    Raises InputError, naming the environment variable `setting`, for an unusable URL, a missing
    driver or a folder that cannot be made.
    """
    parsed = _parse(url, setting)
    sqlite = parsed.get_backend_name() == "sqlite"
    arguments: dict[str, Any] = {"timeout": _WAIT} if sqlite else {"connect_timeout": 5}
    if sqlite and parsed.database:
        with _clear(parsed, setting):
            Path(parsed.database).absolute().parent.mkdir(parents=True, exist_ok=True)
    try:
        # No pool: sessions are rare, and an idle connection would outlive a fork or a server.
        engine = create_engine(parsed, connect_args=arguments, poolclass=NullPool)
    except (ImportError, SQLAlchemyError) as error:
        raise InputError(
            f"no driver for this database ({scrub(str(error), parsed)})",
            where=setting,
            hint="install boxpromptiml[postgres]",
        ) from None
    if sqlite:
        # pysqlite's own transactions take the write lock too late for compare-and-swap.
        event.listen(engine, "connect", lambda raw, _: setattr(raw, "isolation_level", None))
        event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    writing = connection.get_execution_options().get("writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


@contextmanager
def transaction(engine: Engine, setting: str, *, writing: bool = False) -> Iterator[Connection]:
    """One transaction, committed at the end of the block.

    Writing takes SQLite's write lock at the start; a waiting writer gives up after 30 s.

    Raises:
        UnavailableError: unreachable or locked database.
        InputError: no database, one that is read-only, or a wrong password.
        sqlalchemy.exc.IntegrityError: a constraint was violated (someone else was faster).
    """
    with (
        _clear(engine.url, setting),
        engine.execution_options(writing=writing).connect() as connection,
    ):
        if writing and engine.dialect.name == "postgresql":
            connection.execute(text(f"SET LOCAL lock_timeout = '{_WAIT}s'"))
        yield connection
        connection.commit()


def probe(url: str, setting: str) -> None:
    """Reach a database once; raises UnavailableError within seconds when that fails."""
    with transaction(connect(url, setting), setting) as connection:
        connection.execute(text("SELECT 1"))
