"""The promotion ledger: an append-only SQL table that decides which version is champion.

(model, sequence) is unique and a row's sequence follows the last one read, so of two writers that
race exactly one gets it: compare-and-swap. SQLite by default, PostgreSQL in production; the
address is `$IML_LEDGER_URL`. There is no way here to change or delete a row, and PostgreSQL refuses
it to whoever tries.

Opening a ledger brings its schema to `HEAD` by Alembic; a new revision is a module in
`migrations/versions` and the new `HEAD`. Of several processes one migrates, the others wait for it.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError

from components.core.errors import CheckError, EvidenceError, InputError
from components.core.files import canonical_json
from components.core.paths import LEDGER, state_dir
from components.registry import chain, database, row_signatures, signing
from components.registry.chain import Event, LedgerHead, Row
from components.registry.signing import Signer

SETTING = "IML_LEDGER_URL"
HEAD, VERSION_TABLE = "0003", "ledger_schema"
_SIGNED = "0003"  # the first revision with signatures
_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x1ED6E2  # PostgreSQL's advisory lock of those who migrate
_ATTEMPTS = 20  # at the next free sequence, under racing writers

table = sa.table("ledger", *(sa.column(field.name) for field in fields(Row)))
_SIGNATURES = ("signing_key", "signature")  # columns


@dataclass(frozen=True)
class Entry:
    """What is to be appended; see `components.registry.chain.Row`.

    Attributes:
        evidence: finite JSON, hashes above all.
        expected_champion: for events that name a champion: the one the decision was made against.
        expected_sequence: the last sequence the decision was made on; None where it cannot matter.
    """

    model: str
    event: Event
    version: int
    actor: str
    reason: str
    evidence: Mapping[str, Any]
    expected_champion: int | None = None
    expected_sequence: int | None = None


def actor_here() -> str:
    """Who acts where nobody is named: `$IML_ACTOR`, else the account we run under."""
    try:
        return os.environ.get("IML_ACTOR", "").strip() or getpass.getuser()
    except (KeyError, OSError):  # a container's account need not have a name
        return f"uid {os.getuid()}"


class Ledger:
    """The table behind a URL; opening it brings its schema up to date.

    Raises InputError wherever the database cannot be used.
    """

    def __init__(self, url: str | None = None) -> None:
        default = f"sqlite:///{state_dir() / LEDGER}"
        self._url = url or database.environment(SETTING, default)
        self._engine = database.connect(self._url, SETTING)
        revision = _upgrade(self._engine)
        # Where it may not be migrated, an older table is read as it is.
        unsigned = revision < _SIGNED
        self._columns = [c for c in table.c if not (unsigned and c.name in _SIGNATURES)]

    @property
    def name(self) -> str:
        """The address without secrets."""
        return database.safe_name(self._url)

    def rows(self, model: str) -> list[Row]:
        """All rows of a model, by sequence."""
        with database.transaction(self._engine, SETTING) as connection:
            return self._rows(connection, model)

    def models(self) -> list[str]:
        """Every model that has rows."""
        with database.transaction(self._engine, SETTING) as connection:
            query = sa.select(table.c.model).distinct().order_by(table.c.model)
            return list(connection.execute(query).scalars())

    def champion(self, model: str) -> int | None:
        """The version the ledger names champion, or None."""
        return chain.champion(self.rows(model))

    def verify(self, model: str, ledger_head: LedgerHead | None = None) -> list[Row]:
        """The model's rows, checked, and who signed them.

        Raises:
            UntrustedError: a row is signed by a key that is not trusted here.
            EvidenceError: naming the first row that is wrong.
            InputError: what stands beside a trusted key is unreadable.
        """
        rows = self.rows(model)
        found = chain.problems(rows, ledger_head)
        if not found:
            faults = list(row_signatures.problems(rows))
            if faults and faults[0].where:  # a key's file, about which a person can do something
                raise faults[0]
            found = [fault.what for fault in faults]
        if found:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            raise EvidenceError(
                f"the ledger of {model} was tampered with: {found[0]}{more}",
                where=self.name,
                hint="restore it from a backup",
            )
        return rows

    def append(self, entry: Entry) -> Row:
        """Append a row, signed; compare-and-swap on the expected champion and sequence.

        Raises:
            CheckError: another writer was faster, so what the decision was based on is outdated.
            InputError: text that cannot be stored, non-finite evidence, unreachable database; no
                key to sign with, or one that may not append this.
        """
        evidence = _checked(entry)
        # A ledger that has been signed gets no row by a key that was made in passing.
        signing.check_key(lambda: any(row.signing_key for row in self.rows(entry.model)))
        signer = signing.signer()
        for _ in range(_ATTEMPTS):
            try:
                with database.transaction(self._engine, SETTING, writing=True) as connection:
                    row = _next(entry, evidence, self._rows(connection, entry.model), signer)
                    connection.execute(sa.insert(table).values(asdict(row)))
                return row
            except IntegrityError:
                # Someone took this sequence: look again. What was expected is checked again too.
                continue
        raise CheckError(
            f"{_ATTEMPTS} other writers were faster", where=self.name, hint="run the command again"
        )

    def _rows(self, connection: Connection, model: str) -> list[Row]:
        query = sa.select(*self._columns).where(table.c.model == model).order_by(table.c.sequence)
        return [Row(**found) for found in connection.execute(query).mappings()]


def _checked(entry: Entry) -> str:
    """The evidence as text; raises InputError for what the ledger must not or cannot hold."""
    for name, value in (("actor", entry.actor), ("reason", entry.reason)):
        if not value.strip() or not value.isprintable():
            raise InputError(f"{name} must be printable text on one line, not {value!r}")
    try:
        return canonical_json(dict(entry.evidence)).decode()
    except (ValueError, TypeError) as error:
        raise InputError(f"evidence of {entry.event} cannot be recorded ({error})") from None


def _next(entry: Entry, evidence: str, rows: list[Row], signer: Signer) -> Row:
    """The row that follows `rows`, signed, if what the entry expects still holds."""
    last = rows[-1] if rows else None
    sequence = last.sequence if last else 0
    again = "run the command again to decide on the current state"
    if entry.expected_sequence is not None and entry.expected_sequence != sequence:
        raise CheckError(
            f"{entry.model}: the ledger has moved on to row {sequence} "
            f"while this was decided on row {entry.expected_sequence}",
            hint=again,
        )
    names_champion = entry.event in chain.CHAMPION_EVENTS
    current = chain.champion(rows)
    if names_champion:
        name = f"version {entry.version} of {entry.model}"
        chain.check_champion(name, entry.expected_champion, current, again)
    values: dict[str, Any] = {
        "model": entry.model,
        "sequence": sequence + 1,
        "event": str(entry.event),
        "version": entry.version,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "actor": entry.actor,
        "reason": entry.reason,
        "evidence": evidence,
        "previous_champion": current if names_champion else None,
        "previous_hash": last.hash if last else chain.GENESIS,
        "signing_key": signer.mark,
    }
    return row_signatures.sign(Row(**values, hash=chain.digest(values)), signer)


def _upgrade(engine: Engine) -> str:
    """Bring a database to `HEAD`; one that is up to date is only looked at.

    Gives its revision, an earlier one for who may only read.
    """
    with database.transaction(engine, SETTING) as connection:
        before = _revision(connection)
    if before == HEAD:
        return HEAD
    try:
        _bring_to_head(engine)
    except InputError:
        if before is None or before > HEAD:
            raise
        return before
    return HEAD


def _bring_to_head(engine: Engine) -> None:
    with database.transaction(engine, SETTING, writing=True) as connection:
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
    column: sa.ColumnClause[str] = sa.column("version_num")
    query = sa.select(column).select_from(sa.table(VERSION_TABLE))
    return connection.execute(query).scalar()


def _migrate(connection: Connection) -> None:
    from alembic import command  # most openings find nothing to do
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes.update(connection=connection, version_table=VERSION_TABLE)
    command.upgrade(config, "head")
