"""`iml score`: a folder or S3 prefix into a table, overlays and a triage page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from flows.cli._common import CHAMPION, RUNS, find_student, progress_bars, result_place


def score(
    source: Annotated[str, typer.Argument(help="A folder, or s3://bucket/prefix.")],
    model: Annotated[
        str, typer.Option(help="name@alias, name/version or a local folder.")
    ] = CHAMPION,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the results; an interrupted run continues; "
            "default: runs/score/SOURCE-MODEL-VERSION."
        ),
    ] = None,
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

    from components.core.files import check_folder
    from components.serving.sources import open_source

    open_source(source, out or RUNS)  # a wrong one is refused before anything heavy is loaded
    if out:
        check_folder(out)
    student = find_student(model)
    out = out or result_place("score", source, student)
    photos = open_source(source, check_folder(out))
    from components.serving.inference import Limits
    from components.serving.origin import Origin
    from components.serving.predictor import Predictor
    from components.serving.score import score as run

    limits, predictor = Limits(min_side, min_quality), Predictor(student.folder)
    origin = Origin.of(student, predictor.weights_sha256)
    with progress_bars() as bar:
        found = run(photos, predictor, out, source, origin, limits, bar("score"))
    if as_json:
        document = {"source": source, **origin.row(), "out": str(out), **asdict(found)}
        typer.echo(json.dumps(document, indent=2))
        return
    counts = f"{found.scored} scored, {found.abstained} abstained, {found.failed} failed"
    typer.echo(f"{counts} ({found.new} of them now): {out}/triage.html, {out}/scores.parquet")
