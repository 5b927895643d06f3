"""MLflow's alias and the decision pages follow the ledger, after an interruption too."""

from __future__ import annotations

from components.core.errors import CheckError
from components.registry import chain, decisions
from components.registry.chain import LedgerHead
from components.registry.versions import Registry


def sync_alias(registry: Registry) -> int | None:
    """Make MLflow's alias and ledger head, and the decision pages, follow the ledger.

    Gives the champion.
    """
    model, store = registry.model, registry.store
    while True:
        rows = registry.ledger.rows(model)
        if not rows:
            return None
        champion = chain.champion(rows)
        if store.alias(model) != champion:
            store.set_alias(model, champion)
        store.set_ledger_head(model, str(LedgerHead(rows[-1].sequence, rows[-1].hash)))
        # Another process may have appended and synced before us: then we undid that just now.
        if len(registry.ledger.rows(model)) == len(rows):
            decisions.refresh(model, rows)
            return champion


def reconcile(registry: Registry) -> list[str]:
    """Repair what an interruption or a person has left; gives one sentence for each thing found.

    Raises CheckError for a damaged ledger, which nothing here can repair.
    """
    model, rows = registry.model, registry.rows()
    held, known = registry.store.versions(model), {row.version for row in rows}
    lost = known - {version.version for version in held}
    if lost:
        raise CheckError(
            f"version {min(lost)} of {model} is in the ledger ({registry.ledger.name}) but missing "
            f"from MLflow",
            where=registry.store.name,
            hint="check that both addresses belong together, or restore the store from a backup",
        )
    notes = []
    alias, champion = registry.store.alias(model), chain.champion(rows)
    if alias != champion:
        seen = LedgerHead.parse(registry.store.ledger_head(model))
        synced = chain.champion(rows[: seen.sequence] if seen else [])
        cause = "a promotion was interrupted" if alias == synced else "it was moved by hand"
        notes.append(
            f"the alias champion of {model} pointed at version {alias or 'none'}, the ledger says "
            f"{champion or 'none'}: {cause}; corrected"
        )
    if rows:
        sync_alias(registry)
    elif alias is not None:
        registry.store.set_alias(model, None)
    for version in held:
        if version.version not in known:
            notes.append(
                f"version {version.version} of {model} is in MLflow but not in the ledger: its "
                "registration was interrupted, or it was put there by hand; it is not used"
            )
    return notes
