"""What Prefect's page of a run shows: tables of stages, gates and metrics, and where reports are.

Without Prefect nothing is made, and nothing of Prefect is imported.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.core.files import read_json
from components.core.paths import (
    CONTACT_SHEET,
    EVALUATED,
    EVALUATION_PAGE,
    METRICS,
    VALIDATION_PAGE,
)
from flows.steps import in_flow

_logger = logging.getLogger(__name__)


def show(outcome: Mapping[str, Any], datasets: Sequence[str]) -> None:
    """Add artifacts to the flow run that is at work, if any; what cannot be added is a warning.

    Args:
        outcome: row of `flows.pipeline.Outcome`.
        datasets: that were evaluated.
    """
    if not in_flow():
        return
    from prefect.artifacts import (
        create_link_artifact,
        create_markdown_artifact,
        create_table_artifact,
    )

    name = f"{outcome['model']}/{outcome['version']}"
    tables = {
        "stages": ("Stages", outcome["stages"]),
        "gates": (f"Gates of {name}: {outcome['sentence']}", outcome["gates"]),
        "metrics": (f"Metrics of {name}", metrics(datasets)),
    }
    try:
        for key, (title, rows) in tables.items():
            create_table_artifact(key=f"retrain-{key}", table=rows, description=title)
        create_markdown_artifact(
            key="retrain-reports", markdown=reports(datasets), description=f"Reports of {name}"
        )
        if page := _version_page(outcome):
            create_link_artifact(page, name, key="retrain-version", description="Files in MLflow")
    except Exception as error:  # the version is registered and decided on: no page may undo that
        _logger.warning("Prefect's page lacks tables: %s", type(error).__name__)


def metrics(datasets: Sequence[str]) -> list[dict[str, Any]]:
    """The figures that have an interval, of every evaluated data set."""
    return [
        {"data set": name, "metric": metric, **{k: said.get(k) for k in ("value", "low", "high")}}
        for name in datasets
        for metric, said in read_json(EVALUATED / name / METRICS).items()
        if isinstance(said, dict) and "value" in said
    ]


def reports(datasets: Sequence[str]) -> str:
    """Where the reports lie in the run's folder, Markdown; a browser opens no file from a page."""
    places = [VALIDATION_PAGE, CONTACT_SHEET]
    places += [EVALUATED / name / EVALUATION_PAGE for name in datasets]
    return "\n".join([f"In `{Path.cwd()}`:", "", *(f"- `{place}`" for place in places)])


def _version_page(outcome: Mapping[str, Any]) -> str | None:
    """The version on MLflow's server, with links to its run and every report."""
    from components.registry import connection

    place = f"models/{outcome['model']}/versions/{outcome['version']}"
    return connection.page(connection.address(), place)
