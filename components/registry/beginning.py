"""Whether a model whose ledger is empty is a new one, or its state has been lost.

A lost or forgotten state folder looks like a new project: version 1 would be made again, and
promoted without being compared with any champion.
"""

from __future__ import annotations

from components.core.errors import EvidenceError
from components.registry.ledger import SETTING, Ledger
from components.workspace import repository

_RESTORE = (
    "restore the state folder from a backup (docs/OPERATIONS.md), or set IML_STATE, "
    f"{SETTING} and MLFLOW_TRACKING_URI to where its state is"
)


def check(model: str, *, published: bool = False) -> None:
    """Raise EvidenceError where git or MLflow know versions of a model and the ledger has none.

    Args:
        model: its name.
        published: whether only the tags of deployments count, not those of a person's own versions.
    """
    ledger = Ledger()
    if ledger.rows(model):
        return
    what = f"the ledger has no row of {model}"
    if tags := repository.tags(model, published=published):
        names = repository.tag_name(model, "*")
        over = f"git tag --delete $(git tag --list '{names}' '{repository.LOCAL}{names}')"
        raise EvidenceError(
            f"{what}, but git has the tag {tags[0]}: the state of its versions is missing",
            where=ledger.name,
            hint=f"{_RESTORE}; to start again with version 1 on purpose: {over}",
        )
    from components.registry.tracking import Store  # takes seconds

    store = Store()
    if head := store.ledger_head(model):
        raise EvidenceError(
            f"{what}, but MLflow ({store.name}) has seen its row {head.partition(':')[0]}",
            where=ledger.name,
            hint=f"{_RESTORE}; to start again with version 1 on purpose, choose another name "
            "in promotion.model",
        )
