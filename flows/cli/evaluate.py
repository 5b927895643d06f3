"""`iml evaluate`: score a model on a data set with true masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli._common import CHAMPION, progress_bars

_NAMES = {
    "f1": "F1",
    "iou": "IoU",
    "mcc": "MCC",
    "auc": "pixel AUC",
    "false_alarm_area": "false-alarm area",
    "image_auc": "image AUC",
    "balanced_accuracy": "balanced accuracy",
    "ece": "calibration error",
    "imdlbenco_f1": "F1 (IMDL-BenCo convention)",
}


def evaluate(
    data: Annotated[Path, typer.Option(help="A data set, or anything `dataset import` reads.")],
    out: Annotated[Path, typer.Option(help="Folder of the results.")],
    model: Annotated[
        str, typer.Option(help="name@alias, name/version or a local folder.")
    ] = CHAMPION,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Metrics with confidence intervals: metrics.json, images.parquet and report.html.

    Scores the data set's own test split (val, if it has no test), or all photos if it has none;
    of the data set that the pipeline trains on, the test split drawn for it. Photos that a version
    of the registry was trained or tuned on are left out.
    """
    from components import params as parameters
    from components.errors import InputError

    settings = parameters.load()
    if not data.exists():
        raise InputError("no such file or folder", where=str(data))
    folder, identity = _opened(model)
    from components.evaluation import report, source
    from components.evaluation.calibration import Calibration
    from components.evaluation.gallery import Album
    from components.seeds import fix_torch
    from components.serving.predictor import Predictor
    from components.student import store

    fix_torch(settings.evaluate.seed, settings.evaluate.threads)
    predictor = Predictor(folder)
    with (
        progress_bars() as bar,
        source.opened(data, out, settings.prepare, bar("read")) as root,
    ):
        photos, which = source.held_back(root, settings.prepare, bar("prepare"))
        if not Path(model).is_dir():
            from components.registry.copies import unknown_to

            offered, fair = photos.images, unknown_to(folder.parent, photos.images)
            if fair.empty:
                raise InputError(f"{model} was trained or tuned on all its photos", where=str(data))
            photos = photos.where(offered["image_id"].isin(fair["image_id"]))
            if left := len(offered) - len(fair):
                which += f", {left} left out that the model was trained or tuned on"
        about = {
            "Data set": f"{data.resolve().name}, {which}",
            **identity,
            "Weights (SHA-256)": predictor.weights_sha256,
        }
        config, _ = store.read_config(folder)
        calibration = Calibration(config.temperature, config.image_threshold)
        predict, album = predictor.probabilities, Album(photos, root)
        result = report.produce(predict, album, settings.evaluate, about, out, bar, calibration)
    if as_json:
        document = {"data": str(data), "photos": which, "model": identity["Model"], "out": str(out)}
        typer.echo(json.dumps(document | {"metrics": result.metrics}, indent=2, allow_nan=False))
    else:
        _show(result.metrics, f"{about['Data set']} ({len(photos.images)} photos)", out)


def _opened(model: str) -> tuple[Path, dict[str, str]]:
    """The folder of a model's files, and what names it on the page: never an alias alone."""
    from datetime import UTC, datetime
    from importlib.metadata import version

    found = {"Model": model}
    folder = Path(model)
    if not folder.is_dir():
        from components.files import read_json
        from components.registry import layout
        from components.registry.copies import verified_copy
        from components.registry.versions import Registry, parse_reference, resolve

        name, number = parse_reference(model)
        registry = Registry.open(name)
        row = resolve(registry, number)
        copy = verified_copy(registry, row)
        commit = read_json(copy / layout.RECORD)["git"]["commit"]
        found = {"Model": f"{name}/{row.version}", "Registered": row.time, "Git commit": commit}
        folder = copy / layout.ARTIFACTS
    found["Evaluated"] = datetime.now(UTC).isoformat(timespec="seconds")
    return folder, found | {"Program": f"boxpromptiml {version('boxpromptiml')}"}


def _show(metrics: dict[str, Any], title: str, out: Path) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table("metric", title=escape(title), title_justify="left")
    for column in ("value", "interval", "photos"):
        table.add_column(column, justify="right")
    for key, name in _NAMES.items():
        table.add_row(name, *_cells(metrics[key]))
    for kind, block in metrics["groups"].items():
        table.add_row(f"F1, {escape(kind)}", *_cells(block["f1"]))
    for treatment, levels in metrics["robustness"].items():
        for level, block in levels.items():
            table.add_row(f"F1, {treatment} {level}", *_cells(block["f1"]))
    console.print(table)
    console.print(f"metrics.json, images.parquet and report.html are in {escape(str(out))}")


def _cells(block: dict[str, Any]) -> tuple[str, str, str]:
    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    return (
        shown(block["value"]),
        f"{shown(block['low'])} to {shown(block['high'])}",
        str(block["n"]),
    )
