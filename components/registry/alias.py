"""MLflow's alias and the decision pages follow the ledger, after an interruption too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from components.core.errors import CheckError, InputError
from components.registry import chain, checkpoints, decisions
from components.registry.chain import Event, LedgerHead, Row
from components.registry.ledger import Entry, actor_here
from components.registry.tracking import Store
from components.registry.versions import Registry


def sync_alias(registry: Registry) -> int | None:
    """Make MLflow's alias and ledger head, and the decision pages, follow the ledger.

    Gives the champion. There is no alias while MLflow does not have the champion.
    """
    model, store = registry.model, registry.store
    while True:
        rows = registry.ledger.rows(model)
        if not rows:
            return None
        champion = chain.champion(rows)
        if store.alias(model) != champion:
            _point(store, model, champion)
        store.set_ledger_head(model, str(LedgerHead(rows[-1].sequence, rows[-1].hash)))
        # Another process may have appended and synced before us: then we undid that just now.
        if len(registry.ledger.rows(model)) == len(rows):
            decisions.refresh(model, rows)
            checkpoints.publish(rows)
            return champion


def _point(store: Store, model: str, champion: int | None) -> None:
    try:
        store.set_alias(model, champion)
    except CheckError:  # deleted there
        store.set_alias(model, None)


def opened(
    model: str, warn: Callable[[str], None], *, writing: bool = False
) -> tuple[Registry, list[str]]:
    """The registry, reconciled (see there), and the sentences that `warn` was called with."""
    registry = Registry.open(model)
    notes = reconcile(registry, writing=writing)
    for note in notes:
        warn(note)
    return registry, notes


def reconcile(registry: Registry, *, writing: bool = False) -> list[str]:
    """Repair what an interruption or a person has left; gives one sentence for each thing found.

    Args:
        registry: ledger and store.
        writing: whether the ledger may get a row for each version that MLflow has lost; without
            it, what cannot be repaired, because MLflow's store is read-only, is only said.

    Raises:
        CheckError: a damaged ledger, or another model's, which nothing here can repair.
    """
    model, rows = registry.model, registry.rows()
    held, known = registry.held(), {row.version for row in rows}
    lost, champion = known - held, chain.champion(rows)
    notes = _losses(registry, rows, lost)
    if writing:
        rows = _withdraw(registry, rows, lost)
    alias, done = registry.store.alias(model), "corrected"
    seen = LedgerHead.parse(registry.store.ledger_head(model))
    try:
        if rows:
            sync_alias(registry)
        elif alias is not None:
            registry.store.set_alias(model, None)
    except InputError:
        if writing:
            raise
        done = "it cannot be corrected here"
    if alias != (None if champion in lost else champion):
        synced = chain.champion(rows[: seen.sequence] if seen else [])
        cause = "a promotion was interrupted" if alias == synced else "it was moved by hand"
        notes.append(
            f"the alias champion of {model} pointed at version {alias or 'none'}, the ledger says "
            f"{champion or 'none'}: {cause}; {done}"
        )
    return notes + [
        f"version {version} of {model} is in MLflow but not in the ledger: its "
        "registration was interrupted, or it was put there by hand; it is not used"
        for version in sorted(held - known)
    ]


def rename_back(registry: Registry, name: str) -> None:
    """Give a model that has another name in MLflow the ledger's name back.

    Raises CheckError where MLflow has no note of this ledger's end with the other name.
    """
    if registry.renamed(registry.ledger.verify(registry.model)) != name:
        raise CheckError(
            f"{name} is not {registry.model} under another name: MLflow has no note of a row of "
            "this ledger with it",
            where=registry.store.name,
        )
    registry.store.rename(name, registry.model)
    registry.rows()
    sync_alias(registry)


def _losses(registry: Registry, rows: Sequence[Row], lost: set[int]) -> list[str]:
    """A sentence for each version that MLflow has lost: once recorded, for the champion alone."""
    model, champion = registry.model, chain.champion(rows)
    if lost and not registry.store.ledger_head(model):
        raise registry.without_note(rows)
    notes = []
    for version in sorted(lost):
        name = f"version {version} of {model}"
        if version == champion:
            notes.append(
                f"the champion, {name}, is missing from MLflow: restore the store from a backup, "
                "or make an earlier champion the champion again with `iml model rollback`"
            )
        elif not chain.withdrawn(rows, version):
            notes.append(f"{name} is missing from MLflow: it was deleted there; it cannot be used")
    return notes


def _withdraw(registry: Registry, rows: Sequence[Row], lost: set[int]) -> list[Row]:
    """The ledger with a row for each loss that it did not know."""
    found = list(rows)
    with suppress(CheckError):  # another process was faster; the next command looks again
        for version in sorted(lost):
            if not chain.withdrawn(found, version):
                entry = Entry(
                    registry.model,
                    Event.WITHDRAWN,
                    version,
                    actor_here(),
                    "missing from MLflow: it was deleted there",
                    {"missing": "model version"},
                    expected_sequence=found[-1].sequence,
                )
                found.append(registry.ledger.append(entry))
    return found
