"""The flow `drift`: compare scored photos with a reference, write a page, notify, retrain."""

from __future__ import annotations

from pathlib import Path

from components.core.errors import InputError
from components.core.files import write_json, write_text
from components.registry import chain
from components.registry.versions import Registry, registration
from components.serving.drift import EFFECT, SIGNIFICANCE, Drift, compare, read, render
from flows import notify
from flows.steps import reporting_flow, run_logger

RETRAIN = "retrain/nightly"
PAGE, RESULT = "drift.html", "drift.json"
NEXT = "`iml dataset rank PHOTOS --order gain` lists the photos to annotate first"


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
        reference: table of scores, or a folder of `iml predict`, that the champion was fine with.
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
    write_text(Path(out) / PAGE, render(found, before, now))
    write_json(Path(out) / RESULT, found.row())
    _log(model, found, Path(out) / PAGE)
    if found.drifted:
        notify.send("drift", f"{found.sentence}; {NEXT}")
        if retrain:
            from prefect.deployments import run_deployment

            run_deployment(RETRAIN, timeout=0, parameters={"publish": True})
    return found


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
