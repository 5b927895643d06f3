"""`iml run`: the pipeline in this workspace, what a schedule runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from flows.pipeline import Outcome


def run(
    commit: Annotated[
        bool, typer.Option("--commit", help="Commit dvc.lock once the stages are done.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Bring every stage up to date, register what is new, apply the gates, move the champion.

    Runs as a Prefect flow where PREFECT_API_URL names a server, else in this process alone.
    Exit code 0: the version is champion or awaits approval; 1: a gate or a stage failed;
    2: bad input.
    """
    import logging

    from components import workspace
    from components.core import params
    from flows import pipeline
    from flows.cli._common import run_flow
    from flows.servers import require_server

    # Wrong parameters, missing data and a busy workspace are reported before anything is loaded.
    settings = params.load()
    with workspace.exclusive():
        workspace.require(settings.datasets)
        outcome: Outcome | None = pipeline.finished(settings, commit=commit)
    if outcome is None:
        require_server()
        logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
        logging.getLogger("iml").setLevel(logging.INFO)
        outcome = run_flow("retrain", pipeline.bring_up_to_date, _flow, {"commit": commit})
    if as_json:
        typer.echo(json.dumps(outcome.row(), indent=2))
    else:
        _show(outcome)
    if not (outcome.promoted or outcome.awaiting):
        raise typer.Exit(1)


def _flow() -> Any:
    from flows.retrain import retrain

    return retrain


def _show(outcome: Outcome) -> None:
    from rich.console import Console
    from rich.text import Text

    from flows.cli._tables import add_row, gates_table, new_table

    console = Console()
    if any(stage.ran for stage in outcome.stages):
        stages = new_table("Stages", "stage", "result", "seconds")
        for stage in outcome.stages:
            result = "ran" if stage.ran else "up to date"
            add_row(stages, stage.stage, result, f"{stage.seconds:.1f}")
        console.print(stages)
    console.print(gates_table(f"Gates of {outcome.model}/{outcome.version}", outcome.gates))
    console.print(Text(outcome.sentence))
