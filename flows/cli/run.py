"""`iml run`: the retrain flow in this workspace, what a schedule runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from flows.retrain import Outcome


def run(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Bring every stage up to date, register what is new, apply the gates, move the champion.

    Exit code 0: the version is champion or awaits approval; 1: a gate said no or a stage failed;
    2: bad input.
    """
    from components import params, workspace
    from flows.servers import end_orphans, require_server

    # Wrong parameters and a busy workspace are told before the flow's server starts.
    params.load()
    with workspace.exclusive():
        end_orphans()
    require_server()
    from flows.retrain import retrain_here

    outcome = retrain_here()
    if as_json:
        typer.echo(json.dumps(outcome.row(), indent=2))
    else:
        _show(outcome)
    if not (outcome.promoted or outcome.awaiting):
        raise typer.Exit(1)


def _show(outcome: Outcome) -> None:
    from rich.console import Console
    from rich.text import Text

    from flows.cli._tables import add_row, gates_table, new_table

    console = Console()
    stages = new_table("Stages", "stage", "result", "seconds")
    for stage in outcome.stages:
        add_row(stages, stage.stage, "ran" if stage.ran else "up to date", f"{stage.seconds:.1f}")
    console.print(stages)
    console.print(gates_table(f"Gates of {outcome.model}/{outcome.version}", outcome.gates))
    console.print(Text(outcome.sentence))
