"""The flow `score`: a folder or S3 prefix into a table, overlays and a triage page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prefect import flow
from prefect.states import Completed, Failed, State

from components.core.errors import ImlError
from flows import notify
from flows.settings import configure
from flows.steps import step

if TYPE_CHECKING:
    from components.serving.score import Summary


@step("score {source}")
def score_source(source: str, out: str, model: str) -> Summary:
    """Score what is not scored yet; a run that was killed goes on."""
    from components.registry.downloads import fetch
    from components.serving.inference import Limits
    from components.serving.origin import Origin
    from components.serving.predictor import Predictor
    from components.serving.score import score as run
    from components.serving.sources import open_source

    photos = open_source(source, Path(out))
    student = fetch(model)
    predictor = Predictor(student.folder)
    origin = Origin.of(student, predictor.weights_sha256)
    return run(photos, predictor, Path(out), source, origin, Limits())


@flow(
    name="score",
    persist_result=False,
    on_failure=[notify.failure],
    on_crashed=[notify.failure],
)
def score(source: str, out: str, model: str = "boxpromptiml@champion") -> State:
    """Score every photo of a source; fails with one line where that cannot be.

    Args:
        source: a folder, or `s3://bucket/prefix`.
        out: folder of the results.
        model: `name@champion`, `name/version` or a folder.
    """
    configure()
    try:
        found = score_source(source, out, model)
    except ImlError as error:
        return Failed(message=error.line(), data=error)
    counts = f"{found.scored} scored, {found.abstained} abstained, {found.failed} failed"
    return Completed(message=f"{counts}; {out}/triage.html")
