"""`iml predict`: mask, overlay and JSON for photos and folders of photos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli._common import CHAMPION, model_folder, progress_bars

if TYPE_CHECKING:
    from components.serving.batch import Outcome

_SHOWN = 40


def predict(
    photos: Annotated[list[Path], typer.Argument(help="Photos and folders of photos.")],
    model: Annotated[
        str, typer.Option(help="name@alias, name/version or a local folder.")
    ] = CHAMPION,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("runs/predict"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Find manipulated regions: NAME.mask.png, NAME.overlay.png and NAME.json for each photo.

    Photos whose result means little (small, featureless, strongly recompressed) are flagged.
    Exit code 2 if a photo could not be read; the others are processed all the same.
    """
    from components.serving import batch

    # Both may be wrong on the command line: checked before anything heavy is loaded.
    tasks = batch.find(photos, out)
    folder = model_folder(model)
    predictor = batch.Predictor(folder)
    with progress_bars() as bar:
        outcomes = batch.predict_files(predictor, tasks, out, model, progress=bar("predict"))
    if as_json:
        typer.echo(json.dumps(_document(outcomes, out, model, predictor.weights_sha256), indent=2))
    else:
        _show(outcomes, out)
    if failed := [outcome for outcome in outcomes if outcome.error]:
        from components.errors import InputError

        raise InputError(
            f"{len(failed)} of {len(outcomes)} photos could not be read, "
            f"the first is {failed[0].photo} ({failed[0].error})"
        )


def _document(outcomes: list[Outcome], out: Path, model: str, sha256: str) -> dict[str, object]:
    from dataclasses import asdict

    return {
        "model": model,
        "weights_sha256": sha256,
        "out": str(out),
        "photos": [asdict(outcome) for outcome in outcomes],
    }


def _show(outcomes: list[Outcome], out: Path) -> None:
    """A table of the outcomes; of very many, those that failed or score highest."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    shown = outcomes
    if len(outcomes) > _SHOWN:
        ranked = sorted(outcomes, key=lambda row: 2.0 if row.score is None else row.score)
        shown = ranked[: -_SHOWN - 1 : -1]
    table = Table()
    table.add_column("photo", overflow="fold")
    for column in ("score", "area"):
        table.add_column(column, justify="right")
    table.add_column("size")
    table.add_column("results", overflow="fold")
    for row in shown:
        if row.error:
            table.add_row(escape(row.photo), "", "", "", f"[red]{escape(row.error)}[/]")
        else:
            size = f"{row.width}x{row.height}"
            numbers = f"{row.score:.3f}", f"{row.area:.1%}"
            results = escape(f"{row.name}.*")
            if row.unsuitable:
                results += f"\n[yellow]unsuitable: {escape(row.unsuitable)}[/]"
            table.add_row(escape(row.photo), *numbers, size, results)
    console.print(table)
    if len(shown) < len(outcomes):
        console.print(f"the highest {len(shown)} of {len(outcomes)} photos")
    console.print(f"masks, overlays and JSON are in {escape(str(out))}")
