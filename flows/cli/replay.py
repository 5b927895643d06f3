"""`iml replay`: make a version again from its record, and compare every output."""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from components.lineage.replay import Replay

_STYLES = {"bit-equal": "green", "within tolerance": "yellow", "different": "bold red"}


def replay(
    model: Annotated[
        str,
        typer.Argument(metavar="M", help="name@champion, name/version or a bundle with photos."),
    ] = "boxpromptiml@champion",
    into: Annotated[
        Path | None, typer.Option(help="Keep the clone in this new folder; default: removed.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Use this thread count instead of the recorded ones.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Clone at the recorded commit, fetch the inputs, force every stage, compare every output.

    It runs the version's own commands, so it refuses a version that no trusted key signed.

    Exit code 0: bit-equal or within the stated tolerances; 1: different, or cannot be replayed.
    """
    from components.core.errors import InputError
    from components.core.files import check_folder
    from components.lineage.bundle import evidence_of

    if into and os.path.exists(into):
        raise InputError("already exists", where=str(into), hint="name a new folder")
    if into:
        check_folder(into.parent)
    with evidence_of(model) as evidence, TemporaryDirectory(prefix="iml-replay-") as scratch:
        # It imports torch, which a refused argument does not need.
        from components.lineage.replay import Match
        from components.lineage.replay import replay as make

        folder = into or Path(scratch, "clone")
        answer = make(evidence, folder, lambda line: typer.echo(line, err=True), threads=threads)
    if as_json:
        typer.echo(json.dumps(answer.row(), indent=2, ensure_ascii=False))
    else:
        _show(answer)
    if answer.match == Match.DIFFERENT:
        raise typer.Exit(1)


def _show(answer: Replay) -> None:
    from rich.console import Console
    from rich.text import Text

    from flows.cli._tables import add_row, new_table

    console = Console()
    table = new_table(f"Replay of {answer.model}/{answer.version}", "stage", "outputs", "how")
    for stage in answer.stages:
        said = "; ".join(f"{out.path}: {out.how}" for out in stage.outputs if out.how)
        style = _STYLES[stage.match]
        add_row(table, stage.name, stage.match, said[:400], styles={1: style})
    console.print(table)
    for change in answer.changes:
        console.print(Text(change, style="yellow"))
    console.print(Text(answer.sentence()))
