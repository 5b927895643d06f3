"""`iml predict`, `iml score` and `iml evaluate`: a model on photos, many photos, a data set."""

from __future__ import annotations

import re
import shlex
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from components.core.errors import InputError
from components.core.files import check_folder
from components.core.paths import RUNS
from flows.cli._common import AsJson, add_row, new_table, print_json, progress_bars, show

if TYPE_CHECKING:
    from components.serving.batch import Outcome, Report
    from components.serving.origin import Origin, Student
    from components.serving.predictor import Predictor

CHAMPION = "boxpromptiml@champion"
Model = Annotated[str, typer.Option(help="name@alias, name/version or a local folder.")]
Device = Annotated[str, typer.Option(help="What ONNX Runtime runs on: cpu, cuda or tensorrt.")]
_DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]
_SHOWN = 40  # photos on the terminal; JSON has all
_METRICS = {
    "f1": "F1 at 0.5",
    "f1_best": "F1, best threshold (optimistic)",
    "f1_at_1_percent": "F1 at 1 % false-alarm area",
    "iou": "IoU",
    "mcc": "MCC",
    "auc": "pixel AUC",
    "false_alarm_area": "false-alarm area",
    "image_auc": "image AUC",
    "balanced_accuracy": "balanced accuracy",
    "ece": "expected calibration error (ECE)",
    "imdlbenco_f1": "F1 (IMDL-BenCo convention)",
}


def find_student(reference: str) -> Student:
    """A student: in a local folder, else fetched from the registry."""
    # A folder needs no registry, whose import takes seconds.
    if Path(reference).is_dir():
        from components.serving.origin import Student

        return Student(Path(reference), reference, None)
    from components.registry.downloads import fetch

    return fetch(reference)


def _default_out(command: str, subject: str | Path, student: Student) -> Path:
    """Where results go by default: below `runs/`, by what they are of and which model made them.

    Args:
        command: the folder below `runs/`; no stage's name.
        subject: a path or address; its last part names the results.
        student: what made them.
    """
    name = Path(student.model).resolve().name if student.version is None else student.name
    parts = (str(subject).rstrip("/").rpartition("/")[2], name)
    return RUNS / command / "-".join(re.sub(r"[^\w.]+", "-", part).strip("-.") for part in parts)


def predict(
    photos: Annotated[list[Path], typer.Argument(help="Photos and folders of photos.")],
    model: Model = CHAMPION,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = RUNS / "predict",
    report: Annotated[
        bool,
        typer.Option(
            "--report", help="Write NAME.report.html as well: a page on each photo for a case file."
        ),
    ] = False,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Find manipulated regions: NAME.mask.png, NAME.overlay.png and NAME.json for each photo.

    --report adds a self-contained page that explains the answer: what the score means, how it holds
    when the photo is recompressed or resized, what the file says of itself (EXIF, JPEG tables,
    content credentials), and what made the answer.

    Photos on which the result means little (small, featureless, strongly recompressed) are flagged.
    Exit code 2 if a photo could not be read; the others are processed all the same.
    """
    from components.serving import batch, own_code
    from components.serving.origin import Origin

    # Both may be wrong on the command line: checked before anything heavy is loaded.
    tasks = batch.find(photos, out)
    check_folder(out)
    student = find_student(model)
    predictor = own_code.load(student, device=device)
    origin = Origin.of(student, predictor.weights_sha256)
    with progress_bars() as bar:
        page = _reporter(predictor, student, origin, model, device) if report else None
        outcomes = batch.predict_files(
            predictor, tasks, out, origin, report=page, progress=bar("predict")
        )
    if as_json:
        rows = [vars(outcome) for outcome in outcomes]
        print_json({**origin.row(), "out": str(out), "photos": rows})
    else:
        _show_predictions(outcomes, out)
        typer.echo(f"by {student.name}, weights {origin.weights_sha256[:16]}, {origin.program}")
    if failed := [outcome for outcome in outcomes if outcome.error]:
        raise InputError(
            f"{len(failed)} of {len(outcomes)} photos could not be read, "
            f"the first is {failed[0].photo} ({failed[0].error})"
        )


def _reporter(
    predictor: Predictor, student: Student, origin: Origin, model: str, device: str
) -> Report:
    """What makes the report of a photo."""
    from functools import partial

    from components.serving.own_code import OwnCode
    from components.serving.report import Model, case_report

    about = {
        "Command": f"iml predict --report --model {shlex.quote(model)} --device {device}",
        **_made_from(student),
    }
    if isinstance(predictor, OwnCode):
        about["Answers by"] = "the code that the version carries, in a process of its own"
    known = Model.of(student)
    return partial(case_report, predictor=predictor, model=known, origin=origin, about=about)


def _show_predictions(outcomes: list[Outcome], out: Path) -> None:
    """A table of the outcomes; of very many, those that failed or score highest."""
    shown = outcomes
    if len(outcomes) > _SHOWN:
        ranked = sorted(outcomes, key=lambda row: 2.0 if row.score is None else row.score)
        shown = ranked[: -_SHOWN - 1 : -1]
    table = new_table("", "photo", "score#", "area#", "size", "results")
    for row in shown:
        if row.error:
            add_row(table, row.photo, "", "", "", row.error, styles={4: "red"})
            continue
        numbers = f"{row.score:.3f}", f"{row.area:.1%}", f"{row.width}x{row.height}"
        poor = f"\nunsuitable: {row.unsuitable}" if row.unsuitable else ""
        styles = {4: "yellow"} if poor else None
        add_row(table, row.photo, *numbers, f"{row.name}.*{poor}", styles=styles)
    show(table)
    if len(shown) < len(outcomes):
        show(f"the highest {len(shown)} of {len(outcomes)} photos")
    kinds = "masks, overlays, reports and" if any(row.report for row in outcomes) else None
    show(f"{kinds or 'masks, overlays and'} JSON are in {out}")


def score(
    source: Annotated[str, typer.Argument(help="A folder, or s3://bucket/prefix.")],
    model: Model = CHAMPION,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the results; an interrupted run continues; "
            "default: runs/score/SOURCE-MODEL-VERSION."
        ),
    ] = None,
    min_side: Annotated[
        int, typer.Option(min=1, help="Abstain from photos with a smaller side.")
    ] = 64,
    min_quality: Annotated[
        int, typer.Option(min=1, max=100, help="Abstain from JPEGs of a lower quality.")
    ] = 30,
    since: Annotated[
        datetime | None,
        typer.Option(formats=_DATES, help="Only photos changed since then (UTC)."),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Only so many photos, drawn at random.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of --sample.")] = 0,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Score many photos: scores.parquet/, overlays/ and triage.html, the most suspicious first.

    Started again, it continues: photos already scored and unchanged are skipped. It works on all
    cores of this machine, or on the Ray cluster that RAY_ADDRESS names, whose nodes read the photos
    themselves. The page shows the 500 highest scores, and only they have overlays.
    """
    from components.serving.sources import Selection, open_source

    open_source(source, out or RUNS)  # a wrong one is refused before anything heavy is loaded
    if out:
        check_folder(out)
    student = find_student(model)
    out = check_folder(out or _default_out("score", source, student))
    from components.serving import score as scoring
    from components.serving.inference import Limits

    limits, selection = Limits(min_side, min_quality), Selection(since, sample, seed)
    with progress_bars() as bar:
        origin, done = scoring.run(student, source, out, device, limits, selection, bar("score"))
    if as_json:
        print_json({"source": source, **origin.row(), "out": str(out), **vars(done)})
        return
    counts = f"{done.scored} scored, {done.abstained} abstained, {done.failed} failed"
    typer.echo(f"{counts} ({done.new} of them now): {out}/triage.html, {out}/scores.parquet")


def evaluate(
    data: Annotated[Path, typer.Option(help="A data set, or anything `dataset import` reads.")],
    model: Model = CHAMPION,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the results; default: runs/evaluations/DATA-MODEL-VERSION."),
    ] = None,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Score a model on a data set: metrics, a table, a report and its photos, with intervals.

    Scores the data set's own test split (val, if it has no test), or all photos if it has none;
    for the data set that the pipeline trains on, the test split drawn for it. Photos that a
    registered version was trained or tuned on are left out.
    """
    from components.core import params as parameters

    settings = parameters.load()
    if not data.exists():
        raise InputError("no such file or folder", where=str(data))
    if out:
        check_folder(out)
    student = find_student(model)
    folder = student.folder
    out = check_folder(out or _default_out("evaluations", data.resolve(), student))
    from components.core.files import read_json
    from components.evaluate import report, source
    from components.evaluate.calibration import Calibration
    from components.evaluate.gallery import Album
    from components.ingest.importing import opened
    from components.serving import own_code
    from components.serving.origin import Origin
    from components.student.config import CONFIG

    predictor = own_code.load(student, settings.evaluate.threads, device)
    with progress_bars() as bar, opened(data, out, settings.prepare, bar("read")) as root:
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
        config = read_json(folder / CONFIG)  # code of another time may have written it
        calibration = Calibration(config.get("temperature", 1.0), config.get("image_threshold"))
        predictions, album = predictor.probabilities, Album(photos, root)
        result = report.produce(predictions, album, settings.evaluate, about, out, bar, calibration)
    if as_json:
        document = {"data": str(data), "photos": which, **origin.row(), "out": str(out)}
        print_json(document | {"metrics": result.metrics})
    else:
        _show_metrics(result.metrics, f"{about['Data set']} ({len(photos.images)} photos)", out)


def _registered(student: Student) -> dict[str, str]:
    """The commit of a registered version, as its record has it; nothing of a local folder."""
    if student.version is None:
        return {}
    from components.core.files import read_json
    from components.registry import layout

    return {"Git commit": read_json(student.folder.parent / layout.RECORD)["git"]["commit"]}


def _made_from(student: Student) -> dict[str, str]:
    """Data sets and commit of a registered version, as its record has them; nothing of a folder."""
    if student.version is None:
        return {}
    from components.core.files import read_json
    from components.registry import layout, schemas

    record = read_json(student.folder.parent / layout.RECORD)
    found = []
    for name in schemas.of(record).datasets():
        about = record["datasets"].get(name, {})
        rest = "; ".join(f"{key}: {about[key]}" for key in ("source", "licence") if about.get(key))
        found.append(f"data set {name}" + (f" ({rest})" if rest else ""))
    return {
        "Trained on": ", ".join(found),
        "Model made from": f"git commit {record['git']['commit']}",
    }


def _show_metrics(metrics: dict[str, Any], title: str, out: Path) -> None:
    blocks = {name: metrics[key] for key, name in _METRICS.items()}
    blocks |= {f"F1, {kind}": block["f1"] for kind, block in metrics["groups"].items()}
    for treatment, levels in metrics["robustness"].items():
        blocks |= {f"F1, {treatment} {level}": block["f1"] for level, block in levels.items()}
    table = new_table(title, "metric", "value#", "interval#", "photos#")
    for name, block in blocks.items():
        value, low, high = (
            "-" if block[key] is None else f"{block[key]:.3f}" for key in ("value", "low", "high")
        )
        add_row(table, name, value, f"{low} to {high}", block["n"])
    show(table)
    show(f"metrics.json, images.parquet, report.html and photos.html are in {out}")
