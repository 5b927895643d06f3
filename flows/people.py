"""What the flows share in which a person decides: reconcile the registry, report the outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prefect.states import Completed, Failed, State

from components.core import params as parameters
from components.core.errors import ImlError
from flows import notify
from flows.settings import configure
from flows.steps import run_logger

if TYPE_CHECKING:  # it imports MLflow
    from components.core.params import Promotion
    from components.registry.versions import Registry


def opened() -> tuple[Registry, Promotion]:
    """The registry of the model that params.yaml names, with what was interrupted put right."""
    from components.registry.alias import reconcile
    from components.registry.versions import Registry

    rules = parameters.load().promotion
    registry = Registry.open(rules.model)
    for note in reconcile(registry):
        run_logger().warning(note)
    return registry, rules


def decide(act: Callable[[int, str, str], int], version: int, by: str, reason: str) -> State:
    """Do what a person decided and tell people; a flow's state, failed with one line.

    Args:
        act: does it, given the three; gives the ledger's row.
        version: that becomes champion.
        by: who decides.
        reason: why, on one line.
    """
    configure()
    try:
        row = act(version, by, reason)
    except ImlError as error:
        return Failed(message=error.line(), data=error)
    said = f"version {version} is champion (ledger row {row})"
    notify.send("promoted", f"{said}: {by}, {reason}")
    return Completed(message=said)
