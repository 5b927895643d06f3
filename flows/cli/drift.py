"""`iml drift`: whether photos of today look like those that the champion was judged on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from components.core.errors import InputError
from components.core.paths import RUNS, require_project

if TYPE_CHECKING:
    from components.serving.drift import Drift

Scored = "Table of scores (Parquet, CSV) or folder of `iml predict`"


def drift(
    reference: Annotated[Path, typer.Argument(help=f"{Scored}, then.")],
    current: Annotated[Path, typer.Argument(help=f"{Scored}, now.")],
    out: Annotated[Path, typer.Option(help="Folder for the page and JSON.")] = RUNS / "drift",
    model: Annotated[str, typer.Option(help="Name in the registry.")] = "boxpromptiml",
    retrain: Annotated[
        bool, typer.Option(help="Start the deployed retraining if there is drift.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Compare the distributions of score, area, size and JPEG quality. Exit code 1 on drift."""
    from components.core.files import check_folder
    from flows.cli._common import run_flow
    from flows.servers import require_server, server_named

    require_project()
    check_folder(out)
    require_server()
    if retrain and not server_named():
        raise InputError(
            "no server to start the retraining on",
            where="--retrain",
            hint="set PREFECT_API_URL to the server of the deployments",
        )
    from flows import drift as flow

    arguments = {"reference": str(reference), "current": str(current), "out": str(out)}
    options = {"model": model, "retrain": retrain}
    found = cast("Drift", run_flow("drift", flow.measure, lambda: flow.drift, arguments | options))
    if as_json:
        typer.echo(json.dumps(found.row(), indent=2))
    else:
        typer.echo(f"{found.sentence}; see {out / flow.PAGE}")
    if found.drifted:
        raise typer.Exit(1)
