"""The ledger's schema on both databases: made, taken over, never newer than the program."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from components.core.errors import InputError
from components.registry import ledger
from components.registry.chain import Event, Row, digest
from components.registry.ledger import Entry, Ledger


def tables(url: str) -> dict[str, set[str]]:
    inspector = sa.inspect(sa.create_engine(url))
    return {n: {c["name"] for c in inspector.get_columns(n)} for n in inspector.get_table_names()}


def test_a_new_database_gets_the_schema_that_the_code_uses(ledger_url: str) -> None:
    Ledger(ledger_url)
    found = tables(ledger_url)
    assert set(found) == {"ledger", ledger.VERSION_TABLE}
    assert found["ledger"] == {column.name for column in ledger.table.columns}


def test_a_ledger_from_before_the_migrations_is_taken_over(ledger_url: str) -> None:
    Ledger(ledger_url)
    engine = sa.create_engine(ledger_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP TABLE {ledger.VERSION_TABLE}")
    again = Ledger(ledger_url)
    row = again.append(Entry("m", Event.APPROVED, 1, "ann", "fine", {}))
    assert Ledger(ledger_url).rows("m") == [row]
    with engine.connect() as connection:
        said = connection.exec_driver_sql(f"SELECT version_num FROM {ledger.VERSION_TABLE}")
        assert said.scalars().all() == [ledger.HEAD]


def test_a_newer_schema_is_left_alone(ledger_url: str) -> None:
    Ledger(ledger_url)
    with sa.create_engine(ledger_url).begin() as connection:
        connection.exec_driver_sql(f"UPDATE {ledger.VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(InputError, match="newer than this program"):
        Ledger(ledger_url)


@pytest.mark.parametrize("revision", ["0001", "0002"])
def test_an_older_ledger_is_read_where_it_cannot_be_written(revision: str, tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    row = older(Ledger(f"sqlite:///{path}").append(Entry("m", Event.APPROVED, 1, "a", "b", {})))
    with sa.create_engine(f"sqlite:///{path}").begin() as connection:
        connection.exec_driver_sql("UPDATE ledger SET hash = ?", (row.hash,))
        for column in ("signature", "signing_key"):
            connection.exec_driver_sql(f"ALTER TABLE ledger DROP COLUMN {column}")
        set_revision = f"UPDATE {ledger.VERSION_TABLE} SET version_num = '{revision}'"
        connection.exec_driver_sql(set_revision)
    url = f"sqlite:///file:{path}?mode=ro&uri=true"  # root may write a file of mode 0400, too
    assert Ledger(url).verify("m") == [row]
    again = Ledger(f"sqlite:///{path}")
    assert again.verify("m") == [row]
    signed = again.append(Entry("m", Event.APPROVED, 1, "ann", "fine", {}))
    assert again.verify("m") == [row, signed]
    assert signed.signature


def older(row: Row) -> Row:
    """A row as earlier programs made it."""
    row = replace(row, signing_key=None, signature=None)
    return replace(row, hash=digest(asdict(row)))


def test_head_is_the_last_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(ledger.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [ledger.HEAD]
