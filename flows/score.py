"""The flow `score`: a folder or S3 prefix to a table, overlays and a triage page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prefect.states import Completed, State

from flows.steps import reporting_flow, step

if TYPE_CHECKING:
    from components.serving.score import Summary


@step("score {source}")
def score_source(source: str, out: str, model: str) -> Summary:
    """Score what is not scored yet; a run that was killed continues."""
    from components.registry.downloads import fetch
    from components.serving import own_code
    from components.serving.inference import Limits
    from components.serving.origin import Origin
    from components.serving.score import score as run
    from components.serving.sources import open_source

    photos = open_source(source, Path(out))
    student = fetch(model)
    predictor = own_code.load(student)
    origin = Origin.of(student, predictor.weights_sha256)
    return run(photos, predictor, Path(out), source, origin, Limits())


@reporting_flow("score")
def score(source: str, out: str, model: str = "boxpromptiml@champion") -> State:
    """Score every photo of a source; fails with one line where that cannot be.

    Args:
        source: a folder, or `s3://bucket/prefix`.
        out: folder of the results.
        model: `name@champion`, `name/version` or a folder.
    """
    done = score_source(source, out, model)
    counts = f"{done.scored} scored, {done.abstained} abstained, {done.failed} failed"
    return Completed(message=f"{counts}; {out}/triage.html")
