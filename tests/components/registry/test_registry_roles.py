"""Who may do what with a ledger in PostgreSQL: runs append, people read, nobody changes a row."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest
import sqlalchemy as sa

from components.core.errors import InputError
from components.registry import ledger
from components.registry.chain import Event
from components.registry.ledger import Entry, Ledger

ENTRY = Entry("m", Event.REGISTERED, 1, "ann", "because", {"f1": 0.5})
CHANGES = [
    "UPDATE ledger SET actor = 'bob'",
    "UPDATE ledger SET actor = 'bob' WHERE false",
    "DELETE FROM ledger",
    "TRUNCATE ledger",
]
# What the owner of the tables could do to get round the trigger.
DETOURS = [
    "ALTER TABLE ledger DISABLE TRIGGER append_only",
    "SET session_replication_role = replica; DELETE FROM ledger",
    "DROP TABLE ledger",
    "DROP FUNCTION ledger_append_only CASCADE",
    "CREATE OR REPLACE FUNCTION ledger_append_only() RETURNS trigger LANGUAGE sql AS 'SELECT 1'",
    "ALTER TABLE ledger OWNER TO iml_flows",
    "SET ROLE iml",
    "UPDATE ledger_schema SET version_num = '9999'",
    "INSERT INTO ledger_schema VALUES ('9999')",
    "CREATE TABLE more (n int)",
    "COPY (SELECT 1) TO PROGRAM 'id'",
]


@pytest.fixture
def roles(database: str) -> dict[str, str]:
    """A ledger with a row; its URL for each role that reaches it."""
    password = sa.make_url(database).password
    with psycopg2.connect(database) as connection:
        for role in ("iml_flows", "iml_people"):
            made = f"CREATE ROLE {role} LOGIN PASSWORD '{password}'"
            again = f"EXCEPTION WHEN duplicate_object THEN ALTER ROLE {role} PASSWORD '{password}'"
            connection.cursor().execute(f"DO $$ BEGIN {made}; {again}; END $$")
    connection.close()
    Ledger(database).append(ENTRY)
    return {role: database.replace("//iml:", f"//{role}:") for role in ("iml_flows", "iml_people")}


def psql(programs: Path, url: str, statement: str) -> str:
    """What PostgreSQL says to another account of this machine; it must refuse."""
    other = ["runuser", "-u", "nobody", "--"] if os.getuid() == 0 else []
    command = [*other, str(programs / "psql"), url, "-qv", "ON_ERROR_STOP=1", "-c", statement]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode, done.stdout
    return done.stderr


@pytest.mark.parametrize("role", ["iml_flows", "iml_people"])
def test_no_role_changes_a_row(
    database: str, roles: dict[str, str], postgres_programs: Path, role: str
) -> None:
    rows = Ledger(database).rows("m")
    for statement in (*CHANGES, *DETOURS):
        said = psql(postgres_programs, roles[role], statement)
        assert re.search("must be (owner|superuser)|permission denied", said), statement
    assert Ledger(roles[role]).rows("m") == rows


def test_not_even_the_owner_changes_a_row_by_mistake(
    database: str, roles: dict[str, str], postgres_programs: Path
) -> None:
    for statement in CHANGES:
        assert "the ledger is append-only" in psql(postgres_programs, database, statement)
    assert len(Ledger(database).verify("m")) == 1


def test_runs_append_and_people_read(database: str, roles: dict[str, str]) -> None:
    row = Ledger(roles["iml_flows"]).append(ENTRY)
    people = Ledger(roles["iml_people"])
    assert people.verify("m")[-1] == row
    with pytest.raises(InputError, match="permission denied for table ledger"):
        people.append(ENTRY)
    assert len(Ledger(database).rows("m")) == 2


def test_a_ledger_of_the_first_schema_gets_rights_and_keeps_its_rows(
    database: str, roles: dict[str, str], postgres_programs: Path
) -> None:
    rows = [replace(row, signing_key=None, signature=None) for row in Ledger(database).rows("m")]
    with sa.create_engine(database).begin() as connection:  # as revision 0001 left it
        connection.exec_driver_sql("ALTER TABLE ledger DROP signature, DROP signing_key")
        connection.exec_driver_sql("DROP FUNCTION ledger_append_only CASCADE")
        connection.exec_driver_sql("REVOKE ALL ON ledger FROM iml_flows, iml_people")
        connection.exec_driver_sql(f"UPDATE {ledger.VERSION_TABLE} SET version_num = '0001'")
        connection.exec_driver_sql("GRANT SELECT ON ledger TO iml_people")
    assert Ledger(roles["iml_people"]).rows("m") == rows  # who may not bring it up to date reads
    with pytest.raises(InputError, match="permission denied"):
        Ledger(roles["iml_flows"]).append(ENTRY)
    assert Ledger(database).rows("m") == rows
    assert Ledger(roles["iml_flows"]).append(ENTRY).sequence == 2
    assert "append-only" in psql(postgres_programs, database, CHANGES[0])
