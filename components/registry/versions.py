"""What the registry holds: versions that the ledger knows, and how people name them.

The ledger decides what a version is and which is champion; MLflow keeps the files. A version
without a `registered` row is one whose registration was interrupted, and nobody gets it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from components.core.errors import CheckError, InputError
from components.registry import chain
from components.registry.chain import Event, LedgerHead, Row
from components.registry.ledger import Ledger
from components.registry.tracking import ALIAS, LEDGER_HEAD, Store

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Registry:
    """The ledger and the MLflow store, for one model name."""

    ledger: Ledger
    store: Store
    model: str

    @classmethod
    def open(cls, model: str) -> Registry:
        """At the addresses of the environment; raises InputError when one does not answer."""
        if not _NAME.fullmatch(model):
            raise InputError(
                f"{model!r} is not a model name", hint="use letters, digits, '.', '_', '-'"
            )
        # The ledger first: it answers, or not, in a fraction of MLflow's time.
        return cls(Ledger(), Store(), model)

    def rows(self) -> list[Row]:
        """The model's ledger, verified up to what MLflow has seen of it; raises CheckError."""
        seen = self.store.ledger_head(self.model)
        rows = self.ledger.verify(self.model, LedgerHead.parse(seen))
        # Whatever follows a registration was shown to MLflow first: without its note, the end of
        # the ledger could be cut off and nobody would know.
        if not seen and any(row.event != Event.REGISTERED for row in rows):
            raise CheckError(
                f"the note of where the ledger of {self.model} ({self.ledger.name}) ends is "
                f"missing from MLflow",
                where=self.store.name,
                hint="check that both addresses belong together; if they do, compare the ledger "
                f"with a backup and, if it is whole, set the tag {LEDGER_HEAD} of the registered "
                f"model to {LedgerHead(rows[-1].sequence, rows[-1].hash)}",
            )
        return rows


@dataclass(frozen=True)
class Standing:
    """A version as the ledger tells it.

    Attributes:
        status: champion | former champion | rejected | awaiting approval | registered.
        facts: evidence of its `registered` row.
        gates: rows of `components.registry.gates.Gate` of its last gating; empty before it.
    """

    model: str
    version: int
    status: str
    registered: str
    facts: dict[str, Any]
    gates: list[dict[str, Any]]

    def row(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def registration(rows: Sequence[Row], version: int) -> Row:
    """The row by which a version exists; raises InputError for an unknown one."""
    for row in rows:
        if row.version == version and row.event == Event.REGISTERED:
            return row
    known = sorted({row.version for row in rows if row.event == Event.REGISTERED})
    name = f"{rows[0].model} has" if rows else "there is"
    raise InputError(
        f"{name} no registered version {version}",
        hint=f"known versions: {', '.join(map(str, known)) or 'none; run `iml run`'}",
    )


def standings(rows: Sequence[Row]) -> list[Standing]:
    """Every registered version, oldest first."""
    current = chain.champion(rows)
    return [
        _standing(row, [r for r in rows if r.version == row.version], current)
        for row in rows
        if row.event == Event.REGISTERED
    ]


def _standing(born: Row, own: Sequence[Row], current: int | None) -> Standing:
    verdicts = [row.event for row in own if row.event in (*chain.CHAMPION_EVENTS, Event.REJECTED)]
    gated = [row for row in own if row.event == Event.GATED]
    if born.version == current:
        status = "champion"
    elif chain.awaits_approval(own, born.version):
        status = "awaiting approval"
    elif any(event in chain.CHAMPION_EVENTS for event in verdicts):
        status = "former champion"
    else:
        status = "rejected" if verdicts else "registered"
    gates = gated[-1].facts()["gates"] if gated else []
    return Standing(born.model, born.version, status, born.time, born.facts(), gates)


def parse_reference(reference: str) -> tuple[str, int | None]:
    """`name@champion` as (name, None), `name/3` as (name, 3); raises InputError for others."""
    name, slash, number = reference.rpartition("/")
    if slash and name and number.isdecimal():
        return name, int(number)
    name, at, alias = reference.partition("@")
    if at and name and alias == ALIAS:
        return name, None
    raise InputError(
        f"{reference!r} names no model",
        hint=f"use name@{ALIAS}, name/version or a folder with student.safetensors",
    )


def resolve(registry: Registry, version: int | None) -> Row:
    """The `registered` row of a version, or of the champion for None."""
    rows = registry.rows()
    wanted = chain.champion(rows) if version is None else version
    if wanted is None:
        raise InputError(
            f"{registry.model} has no champion",
            where=registry.ledger.name,
            hint="run `iml run`, or name a version",
        )
    return registration(rows, wanted)
