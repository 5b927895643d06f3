"""Signatures of ledger rows: which key appended a row, and whether it might.

Each row is signed, over its hash, by the key of whoever acts: the flows' or a person's (see
`components.registry.signing`). The hash covers the key's fingerprint, so a signature cannot be
taken off. Rows that earlier programs made have none; the first signed row follows their hashes, and
so vouches for them as they were then.

What a key may do stands beside its file in a folder of trusted keys, `FINGERPRINT.yaml`, e.g.

    roles: [people]     # flows: register, gate, confirm; people: approve; default: both
    valid_from: 2026-01-01T00:00:00Z
    valid_until: 2026-12-31T00:00:00Z   # rotated or revoked: its earlier rows stay valid

A row's time is its signer's word. A key is held to the latest time of the row and those before it,
so that a revoked one gains nothing by an earlier date.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from components.core.errors import EvidenceError, InputError
from components.registry import signing
from components.registry.chain import Event, Row
from components.registry.signing import Signer, UntrustedError

# Who alone may append a row for an event; the other events are open to both.
_ROLES = {
    Event.REGISTERED: "flows",
    Event.GATED: "flows",
    Event.CONFIRMED: "flows",
    Event.APPROVED: "people",
}


class Rules(BaseModel):
    """What a key may do, and when."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    roles: frozenset[Literal["flows", "people"]] = frozenset({"flows", "people"})
    valid_from: AwareDatetime | None = None
    valid_until: AwareDatetime | None = None

    def refusal(self, event: str, time: datetime) -> str | None:
        """Why a key may not append a row for an event at a time; None if it may."""
        role = _ROLES.get(Event(event))
        if role and role not in self.roles:
            return f"this key is not one of {role}, who alone append {event!r}"
        return self.outside(time)

    def outside(self, time: datetime) -> str | None:
        """Why a key may not sign at a time; None if it may."""
        if self.valid_from and time < self.valid_from:
            return f"this key is valid from {self.valid_from.isoformat()}"
        if self.valid_until and time > self.valid_until:
            return f"this key was valid until {self.valid_until.isoformat()}"
        return None


def rules(public_key: Path) -> Rules:
    """What stands beside a trusted key; a key without a file may do everything.

    Raises InputError for a file that says something else.
    """
    path = public_key.with_suffix(".yaml")
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Rules.model_validate({} if found is None else found)
    except FileNotFoundError:
        return Rules()
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        what = f"not YAML ({' '.join(str(error).split())[:100]})"
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = f"{'.'.join(map(str, first['loc'])) or '(whole file)'}: {first['msg']}"
    hint = "it has roles (of flows, people), valid_from and valid_until (times with a zone)"
    raise InputError(what, where=str(path), hint=hint)


def sign(row: Row, signer: Signer) -> Row:
    """The row with its signature; it names the signer's key already.

    Raises InputError where that key may not append it.
    """
    key = signing.trusted(signer.mark)
    if why := rules(key).refusal(row.event, datetime.now(UTC)):
        raise InputError(why, where=str(key.with_suffix(".yaml")))
    return replace(row, signature=base64.b64encode(signer.sign(_text(row))).decode())


def _raw(row: Row) -> bytes:
    """A row's signature; nothing, which no key made, where it is none."""
    try:
        return base64.b64decode(row.signature or "", validate=True)
    except ValueError:
        return b""


def _text(row: Row) -> str:
    return f"ledger row {row.hash}\n"


def problems(rows: Sequence[Row]) -> Iterator[EvidenceError]:
    """What is wrong with the signatures of a model's rows, whose hashes have been checked.

    Last an UntrustedError for each key that is not known here. Without a place or a hint unless a
    person can do something about it.
    """
    latest, signed = datetime.min.replace(tzinfo=UTC), False
    foreign: dict[str, list[Row]] = {}
    key_of, rules_of = cache(_key), cache(rules)  # many rows, few keys: their files are read once
    for row in rows:
        latest = max(latest, datetime.fromisoformat(row.time))
        if row.signing_key is None:
            if signed:
                yield EvidenceError(f"{row.name} is not signed, although earlier rows are")
            continue
        signed = True
        key = key_of(row.signing_key)
        if isinstance(key, UntrustedError):
            foreign.setdefault(row.signing_key, []).append(row)
        elif isinstance(key, EvidenceError):
            yield key
        elif not signing.signed_text(_text(row), _raw(row), key):
            yield EvidenceError(f"{row.name} was not signed by the key that it names")
        elif why := rules_of(key).refusal(row.event, latest):
            mark = row.signing_key[:16]
            yield EvidenceError(f"{row.name} should not have been signed: {why} ({mark})")
    yield from (_unknown(mark, own) for mark, own in foreign.items())


def _key(mark: str) -> Path | EvidenceError:
    """The trusted key with this fingerprint, or why there is none."""
    try:
        return signing.trusted(mark)
    except EvidenceError as error:
        return error


def _unknown(mark: str, rows: Sequence[Row]) -> UntrustedError:
    place = signing.place(mark)
    more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    return UntrustedError(
        f"{rows[0].name}{more} signed by the key {mark[:16]}, which is not trusted here",
        where=str(place.parent),
        hint=f"if you know whose it is, put it there as {place.name}",
    )
