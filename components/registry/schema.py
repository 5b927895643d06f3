"""The ledger's schema, migrated by Alembic when a ledger is opened.

A new revision is a module in `migrations/versions` and the new `HEAD` here. Several processes may
open a ledger at once: one migrates, the others wait for it.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from components.core.errors import InputError
from components.registry import database

HEAD = "0001"
VERSION_TABLE = "ledger_schema"
_LOCK = 0x1ED6E2  # PostgreSQL's advisory lock of those who migrate


def upgrade(engine: sa.Engine, setting: str) -> None:
    """Bring a database to `HEAD`; an up-to-date one is only looked at.

    Args:
        engine: from `database.connect`.
        setting: the environment variable that holds its address, named in errors.

    Raises:
        InputError: the database cannot be used, or a newer program made its schema.
    """
    with database.transaction(engine, setting) as connection:
        found = _revision(connection)
    if found == HEAD:
        return
    with database.transaction(engine, setting, writing=True) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        found = _revision(connection)
        if found is not None and found > HEAD:
            raise InputError(
                f"the ledger's schema {found} is newer than this program's {HEAD}",
                where=database.safe_name(engine.url),
                hint="use the newer program",
            )
        if found != HEAD:
            _migrate(connection)


def _revision(connection: Connection) -> str | None:
    """The schema's revision; None where it has never been migrated."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    query = sa.text(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608
    return connection.execute(query).scalar()


def _migrate(connection: Connection) -> None:
    from alembic import command  # most openings find nothing to do
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes.update(connection=connection, version_table=VERSION_TABLE)
    command.upgrade(config, "head")
