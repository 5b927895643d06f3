"""The flows in which a person decides: `promote`, a yes to a version that waits; and `rollback`.

A deployment passes their parameters; the command line calls the registry without Prefect, so that
a decision never waits for a server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prefect.states import Completed, State

from components.core import params as parameters
from flows import notify
from flows.catalogue import Catalogue
from flows.steps import reporting_flow, run_logger, step

if TYPE_CHECKING:  # it imports MLflow
    from components.core.params import Promotion
    from components.registry.versions import Registry


@step("approve {version}")
def approve(version: int, by: str, reason: str) -> int:
    """Check the evidence again, record the approval, move the champion; gives the ledger's row."""
    from components.registry import approval

    registry, rules = _opened()
    with Catalogue(rules.model).decisions():
        return approval.approve(registry, version, rules, actor=by, reason=reason).sequence


@step("roll back to {version}")
def roll_back(version: int, by: str, reason: str) -> int:
    """Check the version's files and signature, move the champion; gives the ledger's row."""
    from components.registry import rollback as registry_rollback

    registry, rules = _opened()
    with Catalogue(rules.model).decisions():
        return registry_rollback.rollback(registry, version, actor=by, reason=reason).sequence


def _opened() -> tuple[Registry, Promotion]:
    """The registry of the model that params.yaml names, with what was interrupted put right."""
    from components.registry.alias import reconcile
    from components.registry.versions import Registry

    rules = parameters.load().promotion
    registry = Registry.open(rules.model)
    for note in reconcile(registry):
        run_logger().warning(note)
    return registry, rules


def _decide(act: Callable[[int, str, str], int], version: int, by: str, reason: str) -> State:
    row = act(version, by, reason)
    outcome = f"version {version} is champion (ledger row {row})"
    notify.send("promoted", f"{outcome}: {by}, {reason}")
    return Completed(message=outcome)


@reporting_flow("promote")
def promote(version: int, by: str, reason: str) -> State:
    """Make a version champion that passed its gates; fails with one line if anything has changed.

    Args:
        version: of the model that params.yaml names.
        by: who approves.
        reason: why, on one line.
    """
    return _decide(approve, version, by, reason)


@reporting_flow("rollback")
def rollback(version: int, by: str, reason: str) -> State:
    """Make an earlier champion champion again; fails with one line where that cannot be.

    Args:
        version: of the model that params.yaml names.
        by: who decides.
        reason: why, on one line.
    """
    return _decide(roll_back, version, by, reason)
