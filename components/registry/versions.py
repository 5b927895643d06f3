"""What the registry holds: versions that the ledger knows, and how people name them.

The ledger decides what a version is and which is champion; MLflow keeps the files. A version that
has no `registered` row, because its registration was interrupted, is not used.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from components.core.errors import CheckError, EvidenceError, InputError
from components.registry import chain
from components.registry.chain import Event, LedgerHead, Row
from components.registry.layout import ALIAS, LEDGER_HEAD
from components.registry.ledger import Ledger

if TYPE_CHECKING:
    from components.registry.tracking import Store

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
        ledger = Ledger()
        from components.registry.tracking import Store  # MLflow takes seconds to import

        return cls(ledger, Store(), model)

    def rows(self) -> list[Row]:
        """The model's ledger, verified up to what MLflow has seen of it; raises CheckError."""
        seen = self.store.ledger_head(self.model)
        rows = self.ledger.verify(self.model, LedgerHead.parse(seen))
        # Each registration ends with a note in MLflow, so rows that follow one imply a note:
        # without it, the end of the ledger could be cut off and nobody would know.
        if not seen and any(row.event != Event.REGISTERED for row in rows):
            raise self.without_note(rows)
        return rows

    def without_note(self, rows: Sequence[Row]) -> CheckError:
        """Why MLflow does not say where the ledger ends: renamed, deleted, or the note alone is."""
        where, together = self.store.name, "check that both addresses belong together"
        if name := self.renamed(rows):
            return EvidenceError(
                f"{self.model} was renamed to {name} in MLflow",
                where=where,
                hint=f"`iml model rename {name} {self.model}` gives its name back",
            )
        if not self.held():
            return EvidenceError(
                f"all versions of {self.model}, which the ledger ({self.ledger.name}) has, are "
                "missing from MLflow",
                where=where,
                hint=f"{together}, or restore MLflow's store from a backup",
            )
        return CheckError(
            f"the note of where the ledger of {self.model} ({self.ledger.name}) ends is "
            f"missing from MLflow",
            where=where,
            hint=f"{together}; if they do, compare the ledger with a backup and, if it is whole, "
            f"set the tag {LEDGER_HEAD} of the registered model to "
            f"{LedgerHead(rows[-1].sequence, rows[-1].hash)}",
        )

    def renamed(self, rows: Sequence[Row]) -> str | None:
        """The model's name in MLflow where it is another: the note of a row goes with the model."""
        ends = {str(LedgerHead(row.sequence, row.hash)) for row in rows}
        heads = self.store.ledger_heads()
        return next((n for n, head in heads.items() if head in ends and n != self.model), None)

    def held(self) -> set[int]:
        """The versions that MLflow has."""
        return {version.version for version in self.store.versions(self.model)}

    def present(self, rows: Sequence[Row]) -> list[int]:
        """The versions that these rows register and MLflow still has."""
        held = self.held()
        known = (row.version for row in rows if row.event == Event.REGISTERED)
        return [version for version in known if version in held]


@dataclass(frozen=True)
class VersionState:
    """A version as the ledger has it.

    Attributes:
        status: champion | former champion | rejected | awaiting approval | registered.
        registered: time of registration, UTC, ISO 8601.
        facts: evidence of its `registered` row.
        gates: rows of `components.registry.gates.Gate` of its last gating; empty before it.
        overruled: names of those that a person has overruled.
        withdrawn: whether MLflow no longer has it.
    """

    model: str
    version: int
    status: str
    registered: str
    facts: dict[str, Any]
    gates: list[dict[str, Any]]
    overruled: list[str]
    withdrawn: bool = False

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


def states(rows: Sequence[Row], held: Collection[int] | None = None) -> list[VersionState]:
    """Every registered version, oldest first.

    Args:
        rows: the model's ledger.
        held: the versions that MLflow has; by default what the ledger knows of that.
    """
    champion = chain.champion(rows)
    found = []
    for registered in rows:
        if registered.event == Event.REGISTERED:
            own = [row for row in rows if row.version == registered.version]
            status = _status(own, registered.version, champion)
            gated, _ = chain.last_gating(own, registered.version)
            gates = gated.facts()["gates"] if gated else []
            version, facts = registered.version, registered.facts()
            overruled = chain.overruled(own, gated) if gated else []
            lost = chain.withdrawn(own, version) if held is None else version not in held
            name, time = registered.model, registered.time
            found.append(VersionState(name, version, status, time, facts, gates, overruled, lost))
    return found


def _status(own: Sequence[Row], version: int, champion: int | None) -> str:
    events = {row.event for row in own}
    if version == champion:
        return "champion"
    if chain.awaits_approval(own, version):
        return "awaiting approval"
    if events.intersection(chain.CHAMPION_EVENTS):
        return "former champion"
    return "rejected" if Event.REJECTED in events else "registered"


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
        hint=f"use name@{ALIAS}, name/version or a folder with student.onnx",
    )


def resolve(registry: Registry, version: int | None) -> Row:
    """The `registered` row of a version, or of the champion for None."""
    return named(registry.rows(), registry.model, version, registry.ledger.name)


def named(rows: Sequence[Row], model: str, version: int | None, where: str) -> Row:
    """As `resolve`, in rows that were verified."""
    wanted = chain.champion(rows) if version is None else version
    if wanted is None:
        hint = "run `iml run`, or name a version"
        raise InputError(f"{model} has no champion", where=where, hint=hint)
    return registration(rows, wanted)
