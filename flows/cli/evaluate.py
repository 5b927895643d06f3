"""`iml evaluate`: score a model on a data set with true masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli._common import CHAMPION, find_student, progress_bars, result_place

if TYPE_CHECKING:
    from components.serving.origin import Student

_NAMES = {
    "f1": "F1",
    "iou": "IoU",
    "mcc": "MCC",
    "auc": "pixel AUC",
    "false_alarm_area": "false-alarm area",
    "image_auc": "image AUC",
    "balanced_accuracy": "balanced accuracy",
    "ece": "expected calibration error (ECE)",
    "imdlbenco_f1": "F1 (IMDL-BenCo convention)",
}


def evaluate(
    data: Annotated[Path, typer.Option(help="A data set, or anything `dataset import` reads.")],
    model: Annotated[
        str, typer.Option(help="name@alias, name/version or a local folder.")
    ] = CHAMPION,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the results; default: runs/evaluations/DATA-MODEL-VERSION."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Score a model on a data set: metrics.json, images.parquet and report.html, with intervals.

    Scores the data set's own test split (val, if it has no test), or all photos if it has none;
    of the data set that the pipeline trains on, the test split drawn for it. Photos that a version
    of the registry was trained or tuned on are left out.
    """
    from components.core import params as parameters
    from components.core.errors import InputError
    from components.core.files import check_folder

    settings = parameters.load()
    if not data.exists():
        raise InputError("no such file or folder", where=str(data))
    if out:
        check_folder(out)
    student = find_student(model)
    folder = student.folder
    out = check_folder(out or result_place("evaluations", data.resolve(), student))
    from components.core.seeds import fix_torch
    from components.evaluate import report, source
    from components.evaluate.calibration import Calibration
    from components.evaluate.gallery import Album
    from components.ingest.importing import opened
    from components.serving.origin import Origin
    from components.serving.predictor import Predictor
    from components.student import store

    fix_torch(settings.evaluate.seed, settings.evaluate.threads)
    predictor = Predictor(folder)
    with (
        progress_bars() as bar,
        opened(data, out, settings.prepare, bar("read")) as root,
    ):
        photos, which = source.held_back(root, settings.prepare, bar("prepare"))
        if student.version is not None:
            from components.registry.downloads import unknown_to

            offered, fair = photos.images, unknown_to(folder.parent, photos.images)
            if fair.empty:
                raise InputError(f"{model} was trained or tuned on all its photos", where=str(data))
            photos = photos.where(offered["image_id"].isin(fair["image_id"]))
            if left := len(offered) - len(fair):
                which += f", {left} left out that the model was trained or tuned on"
        origin = Origin.of(student, predictor.weights_sha256)
        about = {
            "Data set": f"{data.resolve().name}, {which}",
            "Model": student.name,
            **_registered(student),
            "Weights (SHA-256)": origin.weights_sha256,
            "Evaluated": origin.made_at,
            "Program": origin.program,
        }
        config, _ = store.read_config(folder)
        calibration = Calibration(config.temperature, config.image_threshold)
        predict, album = predictor.probabilities, Album(photos, root)
        result = report.produce(predict, album, settings.evaluate, about, out, bar, calibration)
    if as_json:
        document = {"data": str(data), "photos": which, **origin.row(), "out": str(out)}
        typer.echo(json.dumps(document | {"metrics": result.metrics}, indent=2, allow_nan=False))
    else:
        _show(result.metrics, f"{about['Data set']} ({len(photos.images)} photos)", out)


def _registered(student: Student) -> dict[str, str]:
    """The commit of a registered version, as its record has it; nothing of a local folder."""
    if student.version is None:
        return {}
    from components.core.files import read_json
    from components.registry import layout

    return {"Git commit": read_json(student.folder.parent / layout.RECORD)["git"]["commit"]}


def _show(metrics: dict[str, Any], title: str, out: Path) -> None:
    from rich.console import Console
    from rich.text import Text

    from flows.cli._tables import add_row, new_table

    console = Console()
    table = new_table(title, "metric", "value#", "interval#", "photos#")
    for key, name in _NAMES.items():
        add_row(table, name, *_cells(metrics[key]))
    for kind, block in metrics["groups"].items():
        add_row(table, f"F1, {kind}", *_cells(block["f1"]))
    for treatment, levels in metrics["robustness"].items():
        for level, block in levels.items():
            add_row(table, f"F1, {treatment} {level}", *_cells(block["f1"]))
    console.print(table)
    console.print(Text(f"metrics.json, images.parquet and report.html are in {out}"))


def _cells(block: dict[str, Any]) -> tuple[str, str, str]:
    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    return (
        shown(block["value"]),
        f"{shown(block['low'])} to {shown(block['high'])}",
        str(block["n"]),
    )
