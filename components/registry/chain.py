"""The ledger's rows and the hash chain that holds them together; pure functions.

Each row's hash covers the row and the hash before it, so an edited, deleted or inserted row breaks
the chain where it happened. The last rows of a chain can be deleted without a break; the ledger
head (the last sequence and hash, kept in another store) shows that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from components.core.errors import CheckError
from components.core.files import sha256_json
from components.registry.layout import LOCK_HASH

GENESIS = "0" * 64
NOT_COMPARABLE = "not comparable"  # value of a gate for which the champion could not be scored


class Event(StrEnum):
    """What can happen to a version."""

    REGISTERED = "registered"
    GATED = "gated"
    APPROVED = "approved"
    PROMOTED = "promoted"
    REJECTED = "rejected"
    ROLLED_BACK = "rolled_back"
    WITHDRAWN = "withdrawn"  # MLflow no longer has it
    CONFIRMED = "confirmed"  # the same student and evidence, made again


OVERRULED = "overruled"  # key of an approval's facts: gates that it overrules
CHAMPION_EVENTS = (Event.PROMOTED, Event.ROLLED_BACK)  # the events that name a champion
_OF_REGISTERED = (Event.WITHDRAWN, Event.CONFIRMED)  # the others that only a known version can have


@dataclass(frozen=True)
class Row:
    """One row of the ledger.

    Attributes:
        model: name in the registry.
        sequence: 1, 2, 3... within the model.
        event: one of `Event`.
        version: the version it happened to.
        time: UTC, ISO 8601.
        actor: who did it.
        reason: why.
        evidence: canonical JSON text.
        previous_champion: the champion it replaced; None for none, and on rows that name none.
        previous_hash: hash of the row before; 64 zeros on the first.
        hash: SHA-256 of all of the above and of the signing key.
        signing_key: fingerprint of the key of whoever acted; None on rows of earlier programs.
        signature: of the hash, see `components.registry.row_signatures`.
    """

    model: str
    sequence: int
    event: str
    version: int
    time: str
    actor: str
    reason: str
    evidence: str
    previous_champion: int | None
    previous_hash: str
    hash: str
    signing_key: str | None = None
    signature: str | None = None

    @property
    def name(self) -> str:
        """In sentences."""
        return f"row {self.sequence} ({self.event} version {self.version})"

    def facts(self) -> dict[str, Any]:
        """The evidence, parsed."""
        return json.loads(self.evidence)

    def plain(self) -> dict[str, Any]:
        """For JSON, with the evidence parsed where it still is JSON."""
        try:
            return {**asdict(self), "evidence": self.facts()}
        except ValueError:
            return asdict(self)

    def intact(self) -> bool:
        """Whether the row is the one that its hash was taken of."""
        try:
            return isinstance(self.sequence, int) and digest(asdict(self)) == self.hash
        except ValueError:
            return False


def digest(values: dict[str, Any]) -> str:
    """The hash of a row: canonical JSON of its columns, without hash, signature and no key."""
    hashed = {name: values[name] for name in values.keys() - {"hash", "signature"}}
    if hashed.get("signing_key") is None:  # rows of earlier programs were hashed without
        hashed.pop("signing_key", None)
    return sha256_json(hashed)


def champion(rows: Iterable[Row]) -> int | None:
    """The version that the last champion event names, or None."""
    champions = [row.version for row in rows if row.event in CHAMPION_EVENTS]
    return champions[-1] if champions else None


def check_champion(name: str, expected: int | None, current: int | None, hint: str) -> None:
    """Raise CheckError where a version was gated against another champion than today's."""
    if expected != current:
        raise CheckError(
            f"{name} was gated against champion {expected or 'none'}, "
            f"but the champion is now {current or 'none'}",
            hint=hint,
        )


def withdrawn(rows: Sequence[Row], version: int) -> bool:
    """Whether MLflow had lost a version when the ledger last heard of its files."""
    kept = (Event.REGISTERED, Event.APPROVED, Event.CONFIRMED, *CHAMPION_EVENTS)
    heard = (Event.WITHDRAWN, *kept)
    found = [row.event for row in rows if row.version == version and row.event in heard]
    return bool(found) and found[-1] == Event.WITHDRAWN


def dismissed(rows: Sequence[Row], version: int) -> Row | None:
    """The rollback away from a version, if it has not become champion again since."""
    for row in reversed(rows):
        if row.event in CHAMPION_EVENTS and version in (row.version, row.previous_champion):
            return row if row.event == Event.ROLLED_BACK and row.version != version else None
    return None


def confirmations(rows: Sequence[Row], version: int) -> set[str]:
    """SHA-256 of every dvc.lock that made a version again."""
    own = [row for row in rows if row.version == version and row.event == Event.CONFIRMED]
    return {row.facts()[LOCK_HASH] for row in own}


def last_gating(rows: Sequence[Row], version: int) -> tuple[Row | None, Row | None]:
    """A version's last `gated` row, and the last verdict that followed it."""
    own = [row for row in rows if row.version == version]
    gated = next((row for row in reversed(own) if row.event == Event.GATED), None)
    if gated is None:
        return None, None
    events = (Event.PROMOTED, Event.REJECTED)
    after = [row for row in own if row.sequence > gated.sequence and row.event in events]
    return gated, next(reversed(after), None)


def awaits_approval(rows: Sequence[Row], version: int) -> bool:
    """Whether a version passed its last gating, which left the decision to a person."""
    gated, verdict = last_gating(rows, version)
    if gated is None or verdict is not None:
        return False
    facts = gated.facts()
    return (
        facts.get("mode") == "approve"
        and facts["champion"] != version
        and all(gate["passed"] for gate in facts["gates"])
    )


def incomparable(gated: Row) -> list[str]:
    """The gates that a version failed, where it failed none but for lack of a comparison.

    A person may overrule these.
    """
    failed = [gate for gate in gated.facts()["gates"] if not gate["passed"]]
    alone = all(gate.get("value") == NOT_COMPARABLE for gate in failed)
    return [gate["name"] for gate in failed] if alone else []


def awaits_comparison(rows: Sequence[Row], version: int) -> bool:
    """Whether a version was last rejected for lack of a comparison alone."""
    gated, verdict = last_gating(rows, version)
    rejected = verdict is not None and verdict.event == Event.REJECTED
    return gated is not None and rejected and bool(incomparable(gated))


def how_to_overrule(gated: Row) -> str:
    """What a person may do about a version that was not compared."""
    command = f"iml model approve {gated.model}/{gated.version} --by NAME --reason WHY --overrule"
    return f"To promote it without a comparison: `{command}`."


def approval(rows: Sequence[Row], gated: Row) -> Row | None:
    """A person's yes to what a gating found."""
    yes = (row for row in rows if row.event == Event.APPROVED)
    return next((row for row in yes if row.facts().get("gated") == gated.hash), None)


def overruled(rows: Sequence[Row], gated: Row) -> list[str]:
    """The gates of a gating that a person has overruled."""
    yes = approval(rows, gated)
    return yes.facts().get(OVERRULED, []) if yes else []


@dataclass(frozen=True)
class LedgerHead:
    """The end of a chain as it was last seen."""

    sequence: int
    hash: str

    @classmethod
    def parse(cls, text: str | None) -> LedgerHead | None:
        """From `sequence:hash`; None for none, a head that nothing matches for garbage."""
        if not text:
            return None
        sequence, _, found = text.partition(":")
        return cls(int(sequence) if sequence.isdecimal() else 0, found)

    def __str__(self) -> str:
        return f"{self.sequence}:{self.hash}"


def problems(rows: Sequence[Row], ledger_head: LedgerHead | None = None) -> list[str]:
    """What is wrong with one model's rows, in order, and with their end; empty when nothing is."""
    found: list[str] = []
    before, current, expected = GENESIS, None, 1
    seen: set[tuple[str, int]] = set()  # events with their versions
    for row in rows:
        name = row.name
        if not row.intact():
            found.append(f"{name} was edited")
        elif row.sequence != expected:
            found.append(f"row {expected} is missing before {name}")
        elif row.previous_hash != before:
            found.append(f"{name} does not follow the row before it: one of the two was inserted")
        elif row.event in CHAMPION_EVENTS and row.previous_champion != current:
            found.append(f"{name} replaces champion {row.previous_champion}, which was {current}")
        elif row.event in CHAMPION_EVENTS and (Event.REGISTERED, row.version) not in seen:
            found.append(f"{name} promotes a version that was never registered")
        elif row.event == Event.ROLLED_BACK and (Event.PROMOTED, row.version) not in seen:
            found.append(f"{name} returns to a version that was never champion")
        elif row.event in _OF_REGISTERED and (Event.REGISTERED, row.version) not in seen:
            found.append(f"{name} is of a version that was never registered")
        seen.add((row.event, row.version))
        if row.event in CHAMPION_EVENTS:
            current = row.version
        before, expected = row.hash, (row.sequence if row.intact() else expected) + 1
    return found or _against(rows, ledger_head)


def _against(rows: Sequence[Row], ledger_head: LedgerHead | None) -> list[str]:
    if ledger_head is None:
        return []
    if ledger_head.sequence > len(rows):
        return [f"rows after {len(rows)} are missing: the registry has seen {ledger_head.sequence}"]
    if ledger_head.sequence < 1 or rows[ledger_head.sequence - 1].hash != ledger_head.hash:
        return [f"row {ledger_head.sequence} is not the one that the registry has seen"]
    return []
