"""What the commands of `iml dataset` share: reading a data set, and showing what came of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from components.core.paths import DATA
from components.core.words import plain
from flows.cli._common import progress_bars

if TYPE_CHECKING:
    from components.data.build import Quarantined
    from components.data.dataset import Dataset
    from components.data.manifest import Manifest

_BOXES = {
    "given": "given",
    "simulate": "drawn from the masks",
    "mixed": "given, or drawn from the masks",
}
_SPLIT = {"given": "given", "grouped": "drawn by source group"}
_SHOWN = 20  # photos left out on the terminal; JSON has all


def deciding(folder: Path, dataset: Dataset, manifest: Manifest | None = None) -> list[str]:
    """Why nothing trained on this data set could be promoted, if so.

    Args:
        folder: the data set's.
        dataset: its index.
        manifest: made of it; made here, where only that tells which photos are tested.
    """
    from components.core import params
    from components.data.manifest import MANIPULATED
    from components.evaluate import source

    settings = params.load()
    decides = settings.evaluate.gate_dataset
    if decides not in (None, folder.name):
        return []
    if decides is not None and decides != settings.prepare.dataset:
        why = source.undecidable(source.deciding(settings))
    elif manifest is None and all(
        row.get("mask") for row in dataset.images if row["label"] == MANIPULATED
    ):
        return []
    else:
        manifest = manifest or build_manifest(str(folder))[1]
        why = source.undecidable(manifest.select(split="test").images)
    return [why] if why else []


def build_manifest(data: str) -> tuple[Path, Manifest, list[Quarantined]]:
    """The manifest of a data set given by name or folder, made with the pipeline's settings."""
    from components.core import params
    from components.data.build import build

    folder = DATA / data if (DATA / data).is_dir() else Path(data)
    with progress_bars() as bar:
        manifest, quarantine = build(folder, params.load().prepare, bar("reading photos"))
    return folder, manifest, quarantine


def show(title: str, report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    notes = report.pop("notes", [])
    if "boxes" in report:
        report["boxes"] = _BOXES.get(report["boxes"], report["boxes"])
    if "split" in report:
        report["split"] = _SPLIT[report["split"]]
    rejected = report.pop("rejected", [])
    table(title, ("what", "value"), [[key, plain(value)] for key, value in report.items()])
    for photo in rejected[:_SHOWN]:
        typer.echo(f"left out: {photo}")
    if len(rejected) > _SHOWN:
        typer.echo(f"and {len(rejected) - _SHOWN} more; see --json")
    for note in notes:
        typer.echo(f"note: {note}")


def table(title: str, columns: tuple[str, ...], rows: list[list[str]]) -> None:
    from rich.console import Console

    from flows.cli._tables import add_row, new_table

    made = new_table(title, *columns)
    for row in rows:
        add_row(made, *row)
    Console().print(made)
