"""The flow `drift`: compare scored photos with a reference, write a page, notify, retrain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from components.annotate import photos, ranking
from components.core.errors import ImlError, InputError
from components.core.files import write_json, write_text
from components.core.paths import state_dir
from components.registry import chain
from components.registry.downloads import fetch
from components.registry.versions import Registry, registration
from components.serving import own_code, table
from components.serving.drift import EFFECT, SIGNIFICANCE, Drift, compare, read, render
from components.serving.score import SETTINGS
from components.serving.table import TABLE
from flows import notify
from flows.steps import reporting_flow, run_logger

RETRAIN = "retrain/nightly"
PAGE, RESULT = "drift.html", "drift.json"
_FIRST = 5  # photos that are named
_CANDIDATES = 100  # photos that the champion looks at again to choose them


@reporting_flow("drift")
def drift(
    reference: str,
    current: str,
    out: str,
    model: str = "boxpromptiml",
    significance: float = SIGNIFICANCE,
    effect: float = EFFECT,
    retrain: bool = False,
) -> Drift:
    """Compare two sets of scored photos; notify people, and retrain where asked, if they differ.

    Args:
        reference: results of `iml score` or `iml predict`, or a table of scores, that the champion
            was fine with.
        current: the same of the photos of today.
        out: folder for page and JSON.
        model: whose champion's run in MLflow gets page and distances.
        significance: of the corrected p-values.
        effect: the least distance between two distributions that counts.
        retrain: start the deployment of the retraining flow where there is drift.

    Raises:
        ImlError: no such table or column, or nothing to compare; one line.
    """
    before, now = read(Path(reference)), read(Path(current))
    found = compare(before, now, significance=significance, effect=effect)
    if found.drifted:
        found = _advised(found, Path(current), f"{model}@champion")
    write_text(Path(out) / PAGE, render(found, before, now))
    write_json(Path(out) / RESULT, found.row())
    _log(model, found, Path(out) / PAGE)
    if found.drifted:
        notify.send("drift", f"{found.sentence}; {found.advice}")
        if retrain:
            from prefect.deployments import run_deployment

            run_deployment(RETRAIN, timeout=0, parameters={"publish": True})
    return found


def _advised(found: Drift, current: Path, model: str) -> Drift:
    """Drift with the photos to annotate first, where the photos of today are `iml score`'s.

    To bound the work, only photos whose scores are the least certain are considered.
    """
    results = current.parent if current.name == TABLE else current
    if not (results / SETTINGS).is_file():
        return found
    found = replace(found, source=str(results))
    try:
        scores = table.read(results / TABLE, "name", "score").set_index("name")["score"].dropna()
        there = [one for one in photos.find(str(results), state_dir()) if one.name in scores]
        there.sort(key=lambda one: abs(scores[one.name] - 0.5))
        predictor = own_code.load(fetch(model))
        order = ranking.rank(there[:_CANDIDATES], "gain", predictor, 0)
    except ImlError as error:
        run_logger().warning(f"the photos to annotate first are not known: {error.line()}")
        return found
    return replace(found, first=tuple(row.name for row in order[:_FIRST]))


def _log(model: str, found: Drift, page: Path) -> None:
    """Log distances and page to the champion's run; a run deleted in MLflow gets none."""
    registry = Registry.open(model)
    rows = registry.rows()
    champion = chain.champion(rows)
    if champion is None:
        return
    run = registration(rows, champion).facts()["run_id"]
    try:
        with registry.store.client() as client:
            for column in found.columns:
                client.log_metric(run, f"drift.{column.name}", column.distance)
            client.log_artifact(run, str(page), "drift")
    except InputError as error:
        run_logger().warning(f"the champion's run does not get the result: {error.line()}")
