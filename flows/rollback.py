"""The flow `rollback`: back to an earlier champion, after checking that it is what it was."""

from __future__ import annotations

from prefect import flow
from prefect.states import State

from flows import notify, people
from flows.catalogue import Catalogue
from flows.steps import step


@step("roll back to {version}")
def roll_back(version: int, by: str, reason: str) -> int:
    """Check the version, move the champion; gives the ledger's row."""
    from components.registry import promotion

    registry, rules = people.opened()
    with Catalogue(rules.model).decisions():
        return promotion.rollback(registry, version, actor=by, reason=reason).sequence


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
    return people.decide(roll_back, version, by, reason)
