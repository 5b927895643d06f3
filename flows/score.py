"""The flow `score`: a folder or S3 prefix to a table, overlays and a triage page."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from prefect.states import Completed, State

from flows.steps import reporting_flow, step

if TYPE_CHECKING:
    from components.serving.score import Summary


@step("score {source}")
def score_source(source: str, out: str, model: str, since: str | None) -> Summary:
    """Score what is not scored yet; a run that was killed continues."""
    from components.registry.downloads import fetch
    from components.serving.score import run
    from components.serving.sources import Selection

    selection = Selection(datetime.fromisoformat(since) if since else None)
    return run(fetch(model), source, Path(out), selection=selection)[1]


@reporting_flow("score")
def score(
    source: str, out: str, model: str = "boxpromptiml@champion", since: str | None = None
) -> State:
    """Score every photo of a source; fails with one line where that cannot be.

    Args:
        source: a folder, or `s3://bucket/prefix`.
        out: folder of the results.
        model: `name@champion`, `name/version` or a folder.
        since: only photos changed then or later, ISO 8601, UTC where it names no time zone.
    """
    done = score_source(source, out, model, since)
    counts = f"{done.scored} scored, {done.abstained} abstained, {done.failed} failed"
    return Completed(message=f"{counts}; {out}/triage.html")
