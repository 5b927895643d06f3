"""`iml run` and `iml drift`: flows, on the server that the environment names or without Prefect."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from inspect import unwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from components.core.errors import ImlError, InputError
from components.core.files import check_folder
from components.core.paths import RUNS, require_project
from flows.cli._common import AsJson, gates_table, new_table, print_json, show
from flows.settings import require_server, server_address

if TYPE_CHECKING:
    from components.serving.drift import Drift
    from flows.pipeline import Outcome

Scored = "Table of scores (Parquet, CSV) or folder of `iml predict`"


def _run_flow(name: str, work: Callable[..., Any], **arguments: Any) -> Any:
    """Run the flow of this name, in the module `flows.<name>`, on the server that is named.

    Without a server, do its work in this process alone.
    """
    from flows import notify

    if server_address():
        flow = getattr(import_module(f"flows.{name}"), name)
        result = flow(**arguments, return_state=True).result(raise_on_failure=False)
        if isinstance(result, BaseException):
            raise result
        return result
    try:
        return work(**arguments)
    except ImlError as error:
        notify.send("failed", f"{name}: {error.line()}")
        raise


def run(
    commit: Annotated[
        bool, typer.Option("--commit", help="Commit dvc.lock once the stages are done.")
    ] = False,
    as_json: AsJson = False,
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

    # Wrong parameters, missing data and a busy workspace are reported before anything is loaded.
    settings = params.load()
    with workspace.exclusive():
        workspace.require(settings.datasets)
        outcome: Outcome | None = pipeline.finished(settings, commit=commit)
    if outcome is None:
        require_server()
        logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
        logging.getLogger("iml").setLevel(logging.INFO)
        outcome = cast("Outcome", _run_flow("retrain", pipeline.bring_up_to_date, commit=commit))
    if as_json:
        print_json(outcome.row())
    else:
        _show(outcome)
    if not (outcome.promoted or outcome.awaiting):
        raise typer.Exit(1)


def _show(outcome: Outcome) -> None:
    if any(stage.ran for stage in outcome.stages):
        rows = [
            (stage.stage, "ran" if stage.ran else "up to date", f"{stage.seconds:.1f}")
            for stage in outcome.stages
        ]
        show(new_table("Stages", "stage", "result", "seconds", rows=rows))
    show(gates_table(f"Gates of {outcome.model}/{outcome.version}", outcome.gates))
    show(outcome.sentence)


def drift(
    reference: Annotated[Path, typer.Argument(help=f"{Scored}, then.")],
    current: Annotated[Path, typer.Argument(help=f"{Scored}, now.")],
    out: Annotated[Path, typer.Option(help="Folder for the page and JSON.")] = RUNS / "drift",
    model: Annotated[str, typer.Option(help="Name in the registry.")] = "boxpromptiml",
    retrain: Annotated[
        bool, typer.Option(help="Start the deployed retraining if there is drift.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare the distributions of score, area, size and JPEG quality. Exit code 1 on drift."""
    require_project()
    check_folder(out)
    require_server()
    if retrain and not server_address():
        raise InputError(
            "no server to start the retraining on",
            where="--retrain",
            hint="set PREFECT_API_URL to the server of the deployments",
        )
    from flows import drift as flow

    arguments = {"reference": str(reference), "current": str(current), "out": str(out)}
    work = unwrap(flow.drift.fn)
    found: Drift = _run_flow("drift", work, **arguments, model=model, retrain=retrain)
    if as_json:
        print_json(found.row())
    else:
        typer.echo(f"{found.sentence}; see {out / flow.PAGE}")
        if found.drifted:
            typer.echo(found.advice)
    if found.drifted:
        raise typer.Exit(1)
