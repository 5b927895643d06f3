"""`iml dataset`: bring data sets in, make them, look at them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from components.core.errors import InputError
from components.core.paths import DATA, DEMO_SOURCES
from components.core.words import plain
from flows.cli._common import AsJson, new_table, print_json, progress_bars, show
from flows.cli.erasing import erase
from flows.cli.ranking import rank, ranked_names

if TYPE_CHECKING:
    from components.data.build import Quarantined
    from components.data.dataset import Dataset
    from components.data.manifest import Manifest
    from components.ingest.outcomes import Outcome

app = typer.Typer(
    help="Data sets: import, export, synthesize, check, info, rank, erase.", no_args_is_help=True
)
app.command()(rank)
app.command()(erase)
Track = Annotated[bool, typer.Option("--track/--no-track", help="Track the folder with DVC.")]
DataSet = Annotated[str, typer.Argument(help="A name below data/, or a data set's folder.")]
_VALUES = {  # of reports, for people
    "boxes": {
        "given": "given",
        "simulate": "drawn from the masks",
        "mixed": "given, or drawn from the masks",
    },
    "split": {"given": "given", "grouped": "drawn by source group"},
}


def folder_named(name: str) -> Path:
    """Where a data set of this name is made or changed; raises InputError for a path, or S3's."""
    from components.workspace import require_own

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise InputError(
            f"{name!r} is not a name", hint="use letters, digits, dots, dashes, underscores"
        )
    require_own(DATA / name)
    return DATA / name


def track_folder(folder: Path, wanted: bool, *, new: bool = False) -> None:
    """Track a folder with DVC; a new one that cannot be tracked is removed."""
    if not wanted:
        return
    from components.workspace import dvc_add

    try:
        dvc_add(folder)
    except BaseException:
        if new:
            shutil.rmtree(folder, ignore_errors=True)
            folder.with_name(f"{folder.name}.dvc").unlink(missing_ok=True)
            with suppress(OSError):  # other data sets are there
                folder.parent.rmdir()
        raise


def _undecidable(folder: Path, dataset: Dataset, manifest: Manifest | None = None) -> list[str]:
    """Why nothing trained on this data set could be promoted, if so.

    Args:
        folder: the data set's.
        dataset: its index.
        manifest: made of it; made here, where only that tells which photos are tested.
    """
    import pandas as pd

    from components.core import params
    from components.data.manifest import MANIPULATED
    from components.evaluate import source

    settings = params.load()
    decides = settings.evaluate.gate_dataset
    if decides not in (None, folder.name):
        return []
    masked = [bool(row.get("mask")) for row in dataset.images if row["label"] == MANIPULATED]
    if not masked and folder.name != settings.gate_dataset:
        pooled = folder.name in settings.distill.pool
        return [] if pooled else ["no photo is manipulated: it can be a pool, see distill.pool"]
    if decides is not None and decides not in settings.prepare.datasets:
        why = source.undecidable(source.deciding(settings))
    elif manifest is None and masked and all(masked):
        return []
    elif manifest is None and not any(masked):  # no need to look at the photos again
        rows = [(row["label"], None) for row in dataset.images]
        why = source.undecidable(pd.DataFrame(rows, columns=["label", "mask_path"]), "")
    else:
        manifest = manifest or _build(str(folder))[1]
        why = source.undecidable(manifest.select(split="test").images)
    return [why] if why else []


def _build(data: str) -> tuple[Path, Manifest, list[Quarantined]]:
    """The manifest of a data set given by name or folder, made with the pipeline's settings."""
    from components.core import params
    from components.data.build import build

    folder = DATA / data if (DATA / data).is_dir() else Path(data)
    with progress_bars() as bar:
        manifest, quarantine = build(folder, params.load().prepare, bar("reading photos"))
    return folder, manifest, quarantine


def _report(
    title: str, report: dict[str, Any], as_json: bool, outcomes: Sequence[Outcome] = ()
) -> None:
    if as_json:
        listed = [row._asdict() for row in outcomes]
        print_json(report | ({"outcomes": listed} if listed else {}))
        return
    notes = report.pop("notes", [])
    for key in _VALUES.keys() & report.keys():
        report[key] = _VALUES[key].get(report[key], report[key])
    rows = [(key, plain(value)) for key, value in report.items()]
    show(new_table(title, "what", "value", rows=rows))
    _show_outcomes(outcomes)
    for note in notes:
        typer.echo(f"note: {note}")


def _show_outcomes(rows: Sequence[Outcome]) -> None:
    """What became of the source, a line for each reason."""
    if not rows:
        return
    from components.ingest.outcomes import summary

    lines = [
        (g.outcome, g.rows, f"{g.example}: {g.reason}" if g.reason else "") for g in summary(rows)
    ]
    show(new_table("What became of it", "outcome", "count#", "why, or an example", rows=lines))


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="File or folder with photos and annotations.")],
    name: Annotated[str | None, typer.Option(help="Name of the new data set, data/NAME.")] = None,
    into: Annotated[
        str | None, typer.Option(help="Existing data set to add to; unusable photos are listed.")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="coco, cvat, folders, imdlbenco, labelme, label-studio, voc or yolo; "
            "detected if not given."
        ),
    ] = None,
    authentic: Annotated[
        bool, typer.Option("--authentic", help="All photos are authentic: no annotation is needed.")
    ] = False,
    inverted: Annotated[
        bool | None,
        typer.Option(
            "--invert-masks/--keep-masks",
            help="Masks that are mostly white: they are inverted, or right as they are.",
            show_default=False,
        ),
    ] = None,
    licence: Annotated[
        str, typer.Option(help="Licence under which the photos may be used.")
    ] = "unknown",
    origin: Annotated[
        str | None, typer.Option("--source-name", help="Where the photos come from.")
    ] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="With --into: take the boxes of known photos from the source."
        ),
    ] = False,
    quarantine: Annotated[
        bool, typer.Option(help="Leave bad photos out instead of refusing the import.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and report everything, write nothing.")
    ] = False,
    track: Track = True,
    as_json: AsJson = False,
) -> None:
    """Check photos, boxes and masks and import them as a data set: all or nothing.

    What becomes of every photo, row and file of the source is reported and listed in the data set's
    import.csv: taken, taken with a note, or left out with a reason. Given splits are kept. If there
    are only train and val, val becomes the test split and validation photos are taken from train by
    source group: nothing is selected on test photos.

    --replace brings corrections back: known photos get boxes and label from the source and keep
    masks, splits and origins.
    """
    from components.core import params

    if (name is None) == (into is None):
        raise InputError("give either --name (for a new data set) or --into (to add to one)")
    if replace and into is None:
        raise InputError("--replace needs --into", hint="name the data set to correct")
    settings = params.load().prepare
    options = {
        "format": format,
        "authentic": authentic,
        "inverted": inverted,
        "dry_run": dry_run,
        "max_megapixels": settings.max_megapixels,
    }
    track = track and not dry_run
    if into is not None:
        _add(source, folder_named(into), {**options, "replaces": replace}, track, as_json)
        return
    card = {"licence": licence, "source_name": origin or source.resolve().name}
    options = {**options, **card, "hash_names": settings.names == "hash"}
    _make(source, folder_named(str(name)), options, quarantine, track, as_json)


def _make(
    source: Path,
    folder: Path,
    options: dict[str, Any],
    quarantine: bool,
    track: bool,
    as_json: bool,
) -> None:
    """Import a new data set."""
    from components.ingest.importing import import_dataset, refuse

    dry_run = options["dry_run"]
    with progress_bars() as bar:
        made = import_dataset(
            source,
            folder,
            name=folder.name,
            quarantine=quarantine or dry_run,
            progress=bar("checking photos"),
            **options,
        )
    track_folder(folder, track, new=True)
    labels = [image["label"] for image in made.dataset.images]
    report = {
        "folder": str(folder),
        "photos": len(labels),
        "manipulated": labels.count("manipulated"),
        "authentic": labels.count("authentic"),
        "boxes": made.dataset.boxes,
        "annotations": len(made.dataset.annotations),
        "split": made.dataset.split,
        "quarantined": len(made.quarantined),
        "notes": [*made.notes, *([] if dry_run else _undecidable(folder, made.dataset))],
        "tracked": track,
    }
    title = f"Would import {source}" if dry_run else f"Imported {source}"
    _report(title, report, as_json, made.outcomes)
    if made.quarantined and not quarantine:  # of a dry run
        refuse(source, made.quarantined, quarantine)


def _add(source: Path, folder: Path, options: dict[str, Any], track: bool, as_json: bool) -> None:
    """Add to a data set what is usable, and list the rest."""
    from components.ingest.merging import merge

    dry_run = options["dry_run"]
    with progress_bars() as bar:
        made = merge(source, folder, progress=bar("checking photos"), **options)
    track_folder(folder, track and bool(made.added or made.masked or made.replaced))
    report = {
        "folder": str(folder),
        "added": len(made.added),
        "masks": len(made.masked),
        "replaced": len(made.replaced),
        "known": made.known,
        "rejected": len(made.rejected),
        "photos": len(made.dataset.images),
        "boxes": made.dataset.boxes,
        "notes": [*made.notes, *([] if dry_run else _undecidable(folder, made.dataset))],
        "tracked": track,
    }
    title = f"Would add {source}" if dry_run else f"Added {source}"
    _report(title, report, as_json, made.outcomes)


@app.command()
def synthesize(
    name: Annotated[
        str, typer.Option("--out", "--name", help="Name of the new data set, data/NAME.")
    ],
    photos: Annotated[
        Path | None, typer.Option(help="Folder of authentic photos; the bundled ones if not given.")
    ] = None,
    cutouts: Annotated[
        Path | None, typer.Option(help="Folder of cut-out objects with transparency.")
    ] = None,
    manipulated: Annotated[int, typer.Option(min=1, help="Number of manipulated photos.")] = 160,
    authentic: Annotated[int, typer.Option(min=1, help="Number of authentic photos.")] = 80,
    seed: Annotated[
        int, typer.Option(min=0, help="The same seed makes the same bytes on the same machine.")
    ] = 7,
    jitter: Annotated[
        float,
        typer.Option(min=0, max=0.5, help="Each side of a box is loosened by up to this share."),
    ] = 0.1,
    licence: Annotated[
        str, typer.Option(help="Licence of the photos and cut-outs.")
    ] = "see ATTRIBUTION.md",
    origin: Annotated[
        str, typer.Option("--source-name", help="Source of the photos and cut-outs.")
    ] = "synthesized",
    track: Track = True,
    as_json: AsJson = False,
) -> None:
    """Make a data set of splices, copy-moves and removals, with exact masks and loose boxes."""
    from components.data.dataset import load
    from components.synthesis.synthesize import synthesize as make

    folder = folder_named(name)
    pictures = _pictures(photos or DEMO_SOURCES / "photos")
    objects = _pictures(cutouts or DEMO_SOURCES / "cutouts")
    with progress_bars() as bar:
        make(
            folder,
            pictures,
            objects,
            manipulated=manipulated,
            authentic=authentic,
            seed=seed,
            jitter=jitter,
            licence=licence,
            source=origin,
            progress=bar("composing photos"),
        )
    track_folder(folder, track, new=True)
    dataset = load(folder)
    report = {
        "folder": str(folder),
        "photos": len(dataset.images),
        "annotations": len(dataset.annotations),
        "seed": seed,
        "tracked": track,
    }
    _report("Synthesized", report, as_json)


def _pictures(folder: Path) -> list[Path]:
    """The image files of a folder, in order, hidden ones left out; InputError without any."""
    from components.core.images import SUFFIXES

    found = sorted(path for path in folder.glob("[!.]*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise InputError("no photos in this folder", where=str(folder))
    return found


@app.command()
def check(data: DataSet, as_json: AsJson = False) -> None:
    """Check every photo, mask and box as the pipeline would, and list the problems.

    Exit code 1 if the pipeline would stop; warnings do not stop it.
    """
    from components.core import params
    from components.data.dataset import load
    from components.validate.suite import validate

    settings = params.load()
    folder, manifest, quarantine = _build(data)
    severity = "critical" if len(quarantine) > settings.prepare.max_quarantined else "warning"
    found = [
        {"severity": severity, "problem": f"{photo}: {reason}", "hint": "replace it"}
        for photo, reason in quarantine
    ]
    report = validate(manifest, folder, settings.validate_)
    undecided = _undecidable(folder, load(folder), manifest)
    found += [{"severity": "warning", "problem": why, "hint": ""} for why in undecided]
    found += [
        {"severity": result.severity, "problem": result.sentence, "hint": result.hint}
        for result in (*report.critical, *report.warnings)
    ]
    passed = all(row["severity"] != "critical" for row in found)
    if as_json:
        document = {"folder": str(folder), "passed": passed, "promotable": not undecided}
        document["problems"] = found
        print_json(document)
    else:
        if found:
            rows = [row.values() for row in found]
            show(new_table(f"Problems of {folder}", "severity", "problem", "what to do", rows=rows))
        verdict = "the pipeline would accept it" if passed else "the pipeline would stop"
        verdict += "; nothing trained on it could be promoted" if passed and undecided else ""
        typer.echo(f"{folder}: {report.photos} photos, {report.boxes} boxes; {verdict}")
    if not passed:
        raise typer.Exit(1)


@app.command()
def info(data: DataSet, as_json: AsJson = False) -> None:
    """Show the counts of a data set: by split and class, by kind of manipulation."""
    from components.data.dataset import load
    from components.prepare.__main__ import summary

    folder, manifest, quarantine = _build(data)
    licence = load(folder).licence
    report = {"folder": str(folder), "licence": licence, **summary(manifest, quarantine)}
    if as_json:
        print_json(report)
        return
    splits = report.pop("splits")
    kinds = [(f"kind: {kind}", count) for kind, count in report.pop("kinds").items()]
    counts = [(f"{split} {label}", n) for split in splits for label, n in splits[split].items()]
    rows = [(key, plain(value)) for key, value in report.items()]
    show(new_table(str(folder), "what", "count", rows=rows + counts + kinds))


@app.command()
def export(
    data: DataSet,
    format: Annotated[str, typer.Option(help="coco, yolo, voc, cvat or label-studio.")],
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    masks: Annotated[
        bool, typer.Option("--masks", help="Add the last run's accepted pseudo-masks as regions.")
    ] = False,
    threshold: Annotated[
        float,
        typer.Option(min=0, max=1, help="Probability above which a pixel belongs to a region."),
    ] = 0.5,
    order: Annotated[
        Path | None, typer.Option(help="Table of `iml dataset rank --out`: these photos first.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write photos, boxes and regions for an annotation tool; what it cannot hold is listed."""
    from components.core import params
    from components.ingest.exporting import export_dataset

    folder = DATA / data if (DATA / data).is_dir() else Path(data)
    settings = params.load().prepare
    names = ranked_names(order) if order else []
    made = export_dataset(
        folder, out, format, settings, masks=masks, threshold=threshold, order=names
    )
    boxes = [box for record in made.records for box in record.boxes]
    report: dict[str, Any] = {
        "folder": str(out),
        "format": format,
        "photos": len(made.records),
        "boxes": len(boxes),
        "drawn_from_masks": made.drawn,
        "regions": sum(box.region is not None for box in boxes),
        "pseudo_masks": made.masked,
        "not_kept": made.not_kept,
    }
    if as_json:
        print_json(report)
        return
    rows = report.pop("not_kept").items()
    known = {key: value for key, value in report.items() if value is not None}
    _report(f"Exported {folder}", known, as_json)
    if rows:
        show(new_table("Not kept", "what the format cannot hold", "count#", rows=rows))
