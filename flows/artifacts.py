"""Prefect's page of a run: tables of stages, gates and metrics, and where the reports are.

Without a flow nothing is made, and nothing of Prefect is imported.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.core import paths
from components.core.files import read_json
from flows.steps import in_flow

_logger = logging.getLogger(__name__)


def show(outcome: Mapping[str, Any], datasets: Sequence[str]) -> None:
    """Add artifacts to the current flow run, if any; a failure is a warning.

    Args:
        outcome: row of `flows.pipeline.Outcome`.
        datasets: those that were evaluated.
    """
    if not in_flow():
        return
    from prefect import artifacts

    from components.registry import connection

    name = f"{outcome['model']}/{outcome['version']}"
    tables = {
        "stages": ("Stages", outcome["stages"]),
        "gates": (f"Gates of {name}: {outcome['sentence']}", outcome["gates"]),
        "metrics": (f"Metrics of {name}", metrics(datasets)),
    }
    try:
        for key, (title, rows) in tables.items():
            artifacts.create_table_artifact(key=f"retrain-{key}", table=rows, description=title)
        artifacts.create_markdown_artifact(
            key="retrain-reports", markdown=reports(datasets), description=f"Reports of {name}"
        )
        place = f"models/{outcome['model']}/versions/{outcome['version']}"
        if page := connection.page(connection.address(), place):
            artifacts.create_link_artifact(
                page, name, key="retrain-version", description="Files in MLflow"
            )
    except Exception as error:  # the version is registered and decided on: no page may undo that
        _logger.warning("Prefect's page lacks tables: %s", type(error).__name__)


def metrics(datasets: Sequence[str]) -> list[dict[str, Any]]:
    """The figures that have an interval, of every evaluated data set."""
    return [
        {"data set": name, "metric": metric, **{k: block.get(k) for k in ("value", "low", "high")}}
        for name in datasets
        for metric, block in read_json(paths.EVALUATED / name / paths.METRICS).items()
        if isinstance(block, dict) and "value" in block
    ]


def reports(datasets: Sequence[str]) -> str:
    """Where the reports are in the run's folder, Markdown; a browser opens no file from a page."""
    places = [paths.VALIDATION_PAGE, paths.CONTACT_SHEET]
    pages = (paths.EVALUATION_PAGE, paths.EVALUATION_PHOTOS)
    places += [paths.EVALUATED / name / page for name in datasets for page in pages]
    return "\n".join([f"In `{Path.cwd()}`:", "", *(f"- `{place}`" for place in places)])
