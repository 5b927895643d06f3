"""`iml teacher train`: train the weights of `sam_lite` again, or on your own photos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from components.core.paths import DEMO_SOURCES


def train(
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, weights and metrics.")],
    photos: Annotated[
        list[Path] | None, typer.Option(help="Folder of photos; may be repeated.")
    ] = None,
    cutouts: Annotated[
        list[Path] | None, typer.Option(help="Folder of RGBA cut-outs; may be repeated.")
    ] = None,
    regions: Annotated[
        Path | None, typer.Option(help="Region data in the layout of BSDS500.")
    ] = None,
    start: Annotated[Path | None, typer.Option(help="Initial weights.")] = None,
    steps: Annotated[int, typer.Option(min=1)] = 6000,
    seed: Annotated[int, typer.Option(min=0)] = 7,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Train sam_lite on composites of photos and cut-outs; a killed run continues."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from components.core.files import check_folder
    from flows.cli._tables import add_row, new_table
    from research.sam_lite.command import train_command

    check_folder(out)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("train", total=steps)
        report = train_command(
            photos or [DEMO_SOURCES / "photos"],
            cutouts or [DEMO_SOURCES / "cutouts"],
            regions,
            out,
            steps=steps,
            seed=seed,
            threads=threads,
            start=start,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    table = new_table("Held-out pairs", "kind", "pairs#", "IoU#", "confidence#", "filled box#")
    for kind, row in report["tuning"].items():
        figures = (f"{row[name]:.3f}" for name in ("iou", "confidence", "box"))
        add_row(table, kind, str(row["n"]), *figures)
    Console().print(table)
    typer.echo(f"{report['weights']}, SHA-256 {report['sha256']}")
