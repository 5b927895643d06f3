"""`iml predict`: mask, overlay and JSON for photos and folders of photos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from components.core.paths import RUNS
from flows.cli._common import CHAMPION, find_student, progress_bars

if TYPE_CHECKING:
    from components.serving.batch import Outcome

_SHOWN = 40


def predict(
    photos: Annotated[list[Path], typer.Argument(help="Photos and folders of photos.")],
    model: Annotated[
        str, typer.Option(help="name@alias, name/version or a local folder.")
    ] = CHAMPION,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = RUNS / "predict",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Find manipulated regions: NAME.mask.png, NAME.overlay.png and NAME.json for each photo.

    Photos whose result means little (small, featureless, strongly recompressed) are flagged.
    Exit code 2 if a photo could not be read; the others are processed all the same.
    """
    from dataclasses import asdict

    from components.core.files import check_folder
    from components.serving import batch
    from components.serving.origin import Origin

    # Both may be wrong on the command line: checked before anything heavy is loaded.
    tasks = batch.find(photos, out)
    check_folder(out)
    student = find_student(model)
    predictor = batch.Predictor(student.folder)
    origin = Origin.of(student, predictor.weights_sha256)
    with progress_bars() as bar:
        outcomes = batch.predict_files(predictor, tasks, out, origin, progress=bar("predict"))
    if as_json:
        rows = [asdict(outcome) for outcome in outcomes]
        typer.echo(json.dumps({**origin.row(), "out": str(out), "photos": rows}, indent=2))
    else:
        _show(outcomes, out)
        typer.echo(f"by {student.name}, weights {origin.weights_sha256[:16]}, {origin.program}")
    if failed := [outcome for outcome in outcomes if outcome.error]:
        from components.core.errors import InputError

        raise InputError(
            f"{len(failed)} of {len(outcomes)} photos could not be read, "
            f"the first is {failed[0].photo} ({failed[0].error})"
        )


def _show(outcomes: list[Outcome], out: Path) -> None:
    """A table of the outcomes; of very many, those that failed or score highest."""
    from rich.console import Console
    from rich.text import Text

    from flows.cli._tables import add_row, new_table

    console = Console()
    shown = outcomes
    if len(outcomes) > _SHOWN:
        ranked = sorted(outcomes, key=lambda row: 2.0 if row.score is None else row.score)
        shown = ranked[: -_SHOWN - 1 : -1]
    table = new_table("", "photo", "score#", "area#", "size", "results")
    for row in shown:
        if row.error:
            add_row(table, row.photo, "", "", "", row.error, styles={4: "red"})
            continue
        numbers = f"{row.score:.3f}", f"{row.area:.1%}", f"{row.width}x{row.height}"
        poor = f"\nunsuitable: {row.unsuitable}" if row.unsuitable else ""
        styles = {4: "yellow"} if poor else None
        add_row(table, row.photo, *numbers, f"{row.name}.*{poor}", styles=styles)
    console.print(table)
    if len(shown) < len(outcomes):
        console.print(f"the highest {len(shown)} of {len(outcomes)} photos")
    console.print(Text(f"masks, overlays and JSON are in {out}"))
