"""The flows in which a person decides: `promote`, a yes to a version that waits; and `rollback`.

A deployment passes their parameters; the command line calls the registry without Prefect, so that
a decision never waits for a server.
"""

from __future__ import annotations

from prefect.states import Completed, State

from components.core import params as parameters
from flows import notify
from flows.catalogue import Catalogue
from flows.steps import reporting_flow, run_logger, step


@step("{action} {version}")
def move_champion(action: str, version: int, by: str, reason: str, overrule: bool = False) -> int:
    """Check a version again, record the decision, move the champion; gives the ledger's row.

    What an interruption has left in the registry is put right first.
    """
    from components.registry import promotion
    from components.registry.alias import opened

    rules = parameters.load().promotion
    with Catalogue(rules.model).decisions():
        registry, _ = opened(rules.model, run_logger().warning, writing=True)
        if action == "approve":
            row = promotion.approve(
                registry, version, rules, actor=by, reason=reason, overrule=overrule
            )
        else:
            row = promotion.rollback(registry, version, actor=by, reason=reason)
    return row.sequence


def _decide(action: str, version: int, by: str, reason: str, overrule: bool = False) -> State:
    row = move_champion(action, version, by, reason, overrule)
    outcome = f"version {version} is champion (ledger row {row})"
    notify.send("promoted", f"{outcome}: {by}, {reason}")
    return Completed(message=outcome)


@reporting_flow("promote")
def promote(version: int, by: str, reason: str, overrule: bool = False) -> State:
    """Make a version champion that passed its gates; fails with one line if anything has changed.

    Args:
        version: of the model that params.yaml names.
        by: who approves.
        reason: why, on one line.
        overrule: also a version that failed only because the champion could not be compared.
    """
    return _decide("approve", version, by, reason, overrule)


@reporting_flow("rollback")
def rollback(version: int, by: str, reason: str) -> State:
    """Make an earlier champion champion again; fails with one line where that cannot be.

    Args:
        version: of the model that params.yaml names.
        by: who decides.
        reason: why, on one line.
    """
    return _decide("roll back to", version, by, reason)
