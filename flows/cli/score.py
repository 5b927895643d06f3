"""`iml score`: a folder or S3 prefix into a table, overlays and a triage page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from flows.cli._common import CHAMPION, model_folder, progress_bars


def score(
    source: Annotated[str, typer.Argument(help="A folder, or s3://bucket/prefix.")],
    out: Annotated[
        Path, typer.Option(help="Folder for the results; an interrupted run continues.")
    ],
    model: Annotated[
        str, typer.Option(help="name@alias, name/version or a local folder.")
    ] = CHAMPION,
    min_side: Annotated[
        int, typer.Option(min=1, help="Abstain from photos with a smaller side.")
    ] = 64,
    min_quality: Annotated[
        int, typer.Option(min=1, max=100, help="Abstain from JPEGs of a lower quality.")
    ] = 30,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Score many photos: scores.parquet, overlays/ and triage.html, the most suspicious first.

    Started again, it continues: photos already scored and unchanged are skipped.
    """
    from dataclasses import asdict

    from components.serving.sources import open_source

    photos = open_source(source, out)
    folder = model_folder(model)
    from components.serving.predictor import Predictor
    from components.serving.score import score as run
    from components.serving.suitability import Limits

    about = {"source": source, "model": model}
    limits = Limits(min_side, min_quality)
    with progress_bars() as bar:
        found = run(photos, Predictor(folder), out, about, limits, bar("score"))
    if as_json:
        typer.echo(json.dumps({**about, "out": str(out), **asdict(found)}, indent=2))
        return
    counts = f"{found.scored} scored, {found.abstained} abstained, {found.failed} failed"
    typer.echo(f"{counts} ({found.new} of them now): {out}/triage.html, {out}/scores.parquet")
