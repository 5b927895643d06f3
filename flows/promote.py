"""The flow `promote`: a person's yes to a version that waits for it.

A deployment gives its parameters; the command line calls `components.registry.approval` without
Prefect, so that a decision never waits for a server.
"""

from __future__ import annotations

from prefect import flow, get_run_logger
from prefect.states import Completed, Failed, State

from components import params as parameters
from components.errors import ImlError
from flows import notify
from flows.catalogue import Catalogue
from flows.failures import step
from flows.settings import configure


@step("approve {version}")
def approve(version: int, by: str, reason: str) -> int:
    """Re-check what was judged, record the approval, move the champion; gives the ledger's row."""
    from components.registry import approval
    from components.registry.projection import reconcile
    from components.registry.versions import Registry

    rules = parameters.load().promotion
    registry = Registry.open(rules.model)
    for note in reconcile(registry):
        get_run_logger().warning(note)
    with Catalogue(rules.model).decisions():
        return approval.approve(registry, version, rules, actor=by, reason=reason).sequence


@flow(
    name="promote",
    persist_result=False,
    on_failure=[notify.failure],
    on_crashed=[notify.failure],
)
def promote(version: int, by: str, reason: str) -> State:
    """Make a version champion that passed its gates; fails with one line where anything changed.

    Args:
        version: of the model that params.yaml names.
        by: who approves.
        reason: why, on one line.
    """
    configure()
    try:
        row = approve(version, by, reason)
    except ImlError as error:
        return Failed(message=error.line(), data=error)
    said = f"version {version} is champion (ledger row {row})"
    notify.send("promoted", f"{said}: {by}, {reason}")
    return Completed(message=said)
