"""Approving: a person makes a version champion that passed its gates, if nothing changed since."""

from __future__ import annotations

from collections.abc import Sequence

from components.core.errors import CheckError, InputError
from components.core.params import Promotion
from components.registry import chain
from components.registry.alias import sync_alias
from components.registry.chain import Event, Row
from components.registry.downloads import verify_download
from components.registry.layout import RECORD_HASH
from components.registry.ledger import Entry
from components.registry.versions import Registry, registration


def approve(registry: Registry, version: int, rules: Promotion, *, actor: str, reason: str) -> Row:
    """Record a person's yes and promote; gives the `promoted` row.

    Killed in between, the same command again completes it.

    Args:
        registry: where.
        version: what was approved.
        rules: today's block `promotion` of params.yaml.
        actor: who approves.
        reason: why.

    Raises:
        InputError: an unknown version, one that is not awaiting approval, or an empty reason.
        CheckError: files, gates or champion are no longer those that were judged.
    """
    rows = registry.rows()
    born = registration(rows, version)
    gated = _waiting(registry.model, rows, version)
    _unchanged(gated, chain.champion(rows), rules)
    verify_download(registry, version, born.facts())
    evidence = {"gated": gated.hash, RECORD_HASH: born.facts()[RECORD_HASH]}
    current = chain.champion(rows)
    approved = _approved(rows, gated) or registry.ledger.append(
        Entry(
            registry.model,
            Event.APPROVED,
            version,
            actor,
            reason,
            evidence,
            expected_sequence=rows[-1].sequence,
        )
    )
    evidence["approved"] = approved.hash
    promoted = registry.ledger.append(
        Entry(
            registry.model,
            Event.PROMOTED,
            version,
            approved.actor,
            f"approved: {approved.reason}",
            evidence,
            current,
        )
    )
    sync_alias(registry)
    return promoted


def _waiting(model: str, rows: Sequence[Row], version: int) -> Row:
    """The gating that waits for approval; raises for a version that does not wait."""
    gated, verdict = chain.last_gating(rows, version)
    if gated is not None and chain.awaits_approval(rows, version):
        return gated
    name = f"version {version} of {model}"
    if chain.champion(rows) == version:
        raise InputError(f"{name} is already the champion")
    if verdict is not None and verdict.event == Event.REJECTED:
        raise CheckError(f"{name} was rejected: {verdict.reason}", hint="see `iml model show`")
    if verdict is not None:
        raise InputError(
            f"{name} had been promoted and was replaced since", hint="use `iml model rollback`"
        )
    raise InputError(f"{name} is not awaiting approval", hint="run `iml run` or `model promote`")


def _unchanged(gated: Row, current: int | None, rules: Promotion) -> None:
    """Raises CheckError when the ground of a gating is no longer there."""
    facts, again = gated.facts(), "run `iml run`, which applies the gates again"
    if facts["champion"] != current:
        raise CheckError(
            f"version {gated.version} of {gated.model} was judged against champion "
            f"{facts['champion'] or 'none'}, but the champion is now {current or 'none'}",
            hint=again,
        )
    if facts["thresholds"] != rules.gates.model_dump(mode="json"):
        raise CheckError(
            f"the gates changed since version {gated.version} of {gated.model} was judged",
            where="params.yaml",
            hint=again,
        )


def _approved(rows: Sequence[Row], gated: Row) -> Row | None:
    """An approval of this gating that was interrupted before the promotion."""
    for row in rows:
        if row.event == Event.APPROVED and row.facts()["gated"] == gated.hash:
            return row
    return None
