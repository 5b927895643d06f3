"""The flow `rollback`: back to an earlier champion, after checking that it is what it was."""

from __future__ import annotations

from prefect import flow, get_run_logger
from prefect.states import Completed, Failed, State

from components import params as parameters
from components.errors import ImlError
from flows import notify
from flows.catalogue import Catalogue
from flows.failures import step
from flows.settings import configure


@step("roll back to {version}")
def roll_back(version: int, by: str, reason: str) -> int:
    """Check the version, move the champion; gives the ledger's row."""
    from components.registry import rollback as registry_rollback
    from components.registry.projection import reconcile
    from components.registry.versions import Registry

    model = parameters.load().promotion.model
    registry = Registry.open(model)
    for note in reconcile(registry):
        get_run_logger().warning(note)
    with Catalogue(model).decisions():
        return registry_rollback.rollback(registry, version, actor=by, reason=reason).sequence


@flow(
    name="rollback",
    persist_result=False,
    on_failure=[notify.failure],
    on_crashed=[notify.failure],
)
def rollback(version: int, by: str, reason: str) -> State:
    """Make an earlier champion champion again; fails with one line where that cannot be.

    Args:
        version: of the model that params.yaml names.
        by: who decides.
        reason: why, on one line.
    """
    configure()
    try:
        row = roll_back(version, by, reason)
    except ImlError as error:
        return Failed(message=error.line(), data=error)
    said = f"version {version} is champion again (ledger row {row})"
    notify.send("promoted", f"{said}: {by}, {reason}")
    return Completed(message=said)
