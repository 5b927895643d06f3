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

    Exit code 0: the version is champion; 1: a gate said no or a stage failed; 2: bad input.
    """
    from components import params, workspace

    # Wrong parameters and a busy workspace are told before the flow's server starts.
    params.load()
    with workspace.exclusive():
        pass
    from flows.retrain import retrain_here

    outcome = retrain_here()
    if as_json:
        typer.echo(json.dumps(outcome.row(), indent=2))
    else:
        _show(outcome)
    if not outcome.promoted:
        raise typer.Exit(1)


def _show(outcome: Outcome) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    stages = Table(title="Stages", title_justify="left")
    for column in ("stage", "result"):
        stages.add_column(column)
    stages.add_column("seconds", justify="right")
    for stage in outcome.stages:
        stages.add_row(stage.stage, "ran" if stage.ran else "up to date", f"{stage.seconds:.1f}")
    console.print(stages)
    gates = Table(title=f"Gates of {outcome.model}/{outcome.version}", title_justify="left")
    for column in ("gate", "verdict", "value", "threshold", "why"):
        gates.add_column(column)
    for gate in outcome.gates:
        verdict = "[green]pass[/]" if gate["passed"] else "[red]fail[/]"
        gates.add_row(
            gate["name"],
            verdict,
            _number(gate["value"]),
            _number(gate["threshold"]),
            gate["reason"],
        )
    console.print(gates)
    console.print(outcome.sentence)


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
