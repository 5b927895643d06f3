"""The flow `promote`: a person's yes to a version that waits for it.

A deployment gives its parameters; the command line calls `components.registry.promotion` without
Prefect, so that a decision never waits for a server.
"""

from __future__ import annotations

from prefect import flow
from prefect.states import State

from flows import notify, people
from flows.catalogue import Catalogue
from flows.steps import step


@step("approve {version}")
def approve(version: int, by: str, reason: str) -> int:
    """Re-check what was judged, record the approval, move the champion; gives the ledger's row."""
    from components.registry import promotion

    registry, rules = people.opened()
    with Catalogue(rules.model).decisions():
        return promotion.approve(registry, version, rules, actor=by, reason=reason).sequence


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
    return people.decide(approve, version, by, reason)
