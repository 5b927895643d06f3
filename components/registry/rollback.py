"""Rolling back: a person's decision for an earlier champion, which no schedule undoes."""

from __future__ import annotations

from components.core.errors import InputError
from components.registry import chain
from components.registry.alias import sync_alias
from components.registry.chain import Event, Row
from components.registry.downloads import verify_download
from components.registry.layout import RECORD_HASH, SIGNATURE_HASH
from components.registry.ledger import Entry
from components.registry.versions import Registry, registration


def rollback(registry: Registry, version: int, *, actor: str, reason: str) -> Row:
    """Make an earlier champion champion again, after checking that it is what it was.

    Raises:
        InputError: it was never champion, is champion now, or the reason is empty.
        CheckError: its files were changed, or the champion changed meanwhile.
    """
    rows = registry.rows()
    born = registration(rows, version)
    current = chain.champion(rows)
    if version == current:
        raise InputError(f"version {version} of {registry.model} is already the champion")
    if not any(row.version == version and row.event in chain.CHAMPION_EVENTS for row in rows):
        raise InputError(
            f"version {version} of {registry.model} was never champion",
            hint="see `iml model history`",
        )
    verify_download(registry, version, born.facts())
    evidence = {name: born.facts()[name] for name in (RECORD_HASH, SIGNATURE_HASH)}
    row = registry.ledger.append(
        Entry(registry.model, Event.ROLLED_BACK, version, actor, reason, evidence, current)
    )
    sync_alias(registry)
    return row
