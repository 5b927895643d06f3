"""Import: a source in any readable format becomes a data set's folder, whole or not at all.

Everything is checked before anything is written. Bad rows refuse the import unless they are to be
quarantined; then they are listed in `quarantine.csv` and the rest is imported. The folder is built
beside its place and renamed into it, so nothing half made is ever seen and nothing is overwritten.
"""

from __future__ import annotations

import glob
import math
import posixpath
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from components.core.errors import InputError
from components.core.files import alone, link_or_copy, printable, write_text
from components.core.images import MAX_MEGAPIXELS, open_mask, save_grey
from components.core.params import Prepare
from components.core.progress import Progress
from components.data.dataset import CARD, MASKS, PHOTOS, Dataset, save
from components.data.manifest import AUTHENTIC, MANIPULATED
from components.data.scan import QUARANTINE, Job, Scan, quarantine_csv, refuse_many, run, scan
from components.ingest.formats import registry
from components.ingest.formats.record import Box, Record

# Exporters round and scale; a box that overhangs by less than this many pixels is clipped.
SLACK = 1.0
# Files derived from a photo have its name and a suffix; file systems allow 255 bytes a name.
LONGEST_NAME = 240


@dataclass(frozen=True)
class Imported:
    """What an import made: the data set, the rows left out as (photo, reason), and remarks."""

    dataset: Dataset
    quarantined: list[tuple[str, str]]
    notes: list[str]


def import_dataset(
    source: Path,
    out: Path,
    *,
    name: str,
    licence: str,
    source_name: str,
    format: str | None = None,
    quarantine: bool = False,
    validated: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
    progress: Progress | None = None,
) -> Imported:
    """Check a source and make a data set of it.

    Args:
        source: a file or folder in a readable format.
        out: the data set's folder, which must not exist yet.
        name: the data set's name.
        licence: under which the photos may be used.
        source_name: where they come from.
        format: a name in `formats.registry`; None detects it.
        quarantine: leave bad rows out and list them, instead of refusing the import.
        validated: the photos go to a data set with a `val` of its own, so a stated `val` stays.
        max_megapixels: larger photos are bad rows.
        progress: called with photos checked.

    Raises:
        InputError: `out` exists, the source is structurally wrong, or a row is bad.
    """
    _refuse_existing(out)
    reading = registry.read(source, format)
    for record in reading.records:
        if posixpath.normpath(record.name) != record.name or record.name.startswith(("../", "/")):
            raise InputError(f"path {record.name!r} leaves this folder", where=str(source))
    scans = _scan(reading.records, max_megapixels, progress)
    checked = list(zip(reading.records, scans, strict=True))
    contradicted = _of_both_labels(checked)
    good, bad = [], []
    for record, seen in checked:
        reason = problem(record, seen)
        if not reason and seen.sha256 in contradicted:
            reason = "the same file is in the data set with the other label"
        if reason:
            bad.append((printable(record.name), reason))
        else:
            good.append((record, seen))
    _refuse(source, bad, len(good), quarantine)
    good, notes = _test_split(good, validated)
    good.sort(key=lambda pair: pair[0].name)
    card = {"name": name, "licence": licence, "source": source_name}
    card = {key: printable(value) for key, value in card.items()}  # often a folder's name
    made = _write(out, good, bad, card, max_megapixels)
    if made.boxes == "mixed":
        drawn = len(unboxed(made.images, made.annotations, made.split))
        notes.append(f"photos without a box whose boxes are drawn from their masks: {drawn}")
    return Imported(made, bad, [*reading.notes, *notes])


def _scan(
    records: Sequence[Record], max_megapixels: float, progress: Progress | None
) -> list[Scan]:
    jobs = [
        Job(record.name, record.photo, record.mask, components=True)
        for record in records
        if not record.problem
    ]
    seen = iter(scan(jobs, max_megapixels, progress))
    return [Scan(problem=r.problem) if r.problem else next(seen) for r in records]


def problem(record: Record, seen: Scan) -> str | None:
    """The first thing wrong with a row, or None."""
    if seen.problem:
        return seen.problem
    if printable(record.name) != record.name:
        return "its name is not UTF-8"
    if len(posixpath.basename(record.name).encode()) > LONGEST_NAME:
        return f"its name is longer than {LONGEST_NAME} bytes"
    size = "x".join(map(str, seen.size))
    if record.size and record.size != seen.size:
        return f"annotated as {'x'.join(map(str, record.size))} but is {size} upright"
    if seen.mask is not None:
        if seen.mask.size != seen.size:
            return f"mask is {'x'.join(map(str, seen.mask.size))} but the photo is {size}"
        if seen.mask.components is not None and not len(seen.mask.components):
            return "mask is empty (values above 127 mean manipulated)"
    if record.label == AUTHENTIC and record.boxes:
        return "authentic, but has a box"
    if record.label == MANIPULATED and not record.boxes and record.mask is None:
        return "manipulated, but has neither box nor mask"
    return next(filter(None, (_box_problem(box, *seen.size) for box in record.boxes)), None)


def _box_problem(box: Box, width: int, height: int) -> str | None:
    """What is wrong with a box on a photo of this size, or None."""
    values = (box.x, box.y, box.width, box.height)
    shown = "[" + ", ".join(f"{value:g}" for value in values) + "]"
    if not all(map(math.isfinite, values)):
        return f"box {shown} is not finite"
    if box.width <= 0 or box.height <= 0:
        return f"box {shown} is inverted or empty"
    over = max(-box.x, -box.y, box.x + box.width - width, box.y + box.height - height)
    if over > SLACK or min(clipped(box, width, height)[2:]) <= 0:
        return f"box {shown} lies outside the photo ({width}x{height})"
    if box.seconds is not None and not math.isfinite(box.seconds):
        return f"box {shown} took {box.seconds} seconds"
    return None


def clipped(box: Box, width: int, height: int) -> list[float]:
    """A checked box as COCO `[x, y, width, height]`, its overhang of under a pixel cut off."""
    x, y = max(box.x, 0.0), max(box.y, 0.0)
    x1, y1 = min(box.x + box.width, float(width)), min(box.y + box.height, float(height))
    return [x, y, x1 - x, y1 - y]


def _refuse_existing(out: Path) -> None:
    if out.exists():
        hint = "choose another name or remove it first"
        raise InputError("exists already", where=str(out), hint=hint)


def _of_both_labels(checked: Sequence[tuple[Record, Scan]]) -> set[str]:
    """Hashes of the files that are listed both as authentic and as manipulated."""
    labels: dict[str, set[str]] = {}
    for record, seen in checked:
        if not seen.problem:
            labels.setdefault(seen.sha256, set()).add(record.label)
    return {sha256 for sha256, found in labels.items() if len(found) > 1}


def _refuse(source: Path, bad: list[tuple[str, str]], good: int, quarantine: bool) -> None:
    """Raise InputError for bad rows that are not to be quarantined, or when no good one is left."""
    if bad and not (quarantine and good):
        more = f" (and {len(bad) - 1} more bad photos)" if len(bad) > 1 else ""
        what = f"{bad[0][0]}: {bad[0][1]}{more}"
        if not quarantine:
            hint = "correct them, or leave them out with --quarantine"
            raise InputError(what, where=str(source), hint=hint)
        raise InputError(f"no usable photo: {what}", where=str(source))


def _test_split(
    good: list[tuple[Record, Scan]], validated: bool
) -> tuple[list[tuple[Record, Scan]], list[str]]:
    """If the source states `train` and `val` but no `test`, its `val` becomes the test split.

    Selecting on it would leave nothing to test on; validation photos are then carved out of
    `train` by source group when the manifest is made.
    """
    stated = {record.split for record, _ in good}
    if validated or "test" in stated or not {"train", "val"} <= stated:
        return good, []
    moved = [
        (replace(record, split="test") if record.split == "val" else record, seen)
        for record, seen in good
    ]
    return moved, [
        "no test split given: val is the test split, val will be taken from train by source group"
    ]


def _write(
    out: Path,
    good: list[tuple[Record, Scan]],
    bad: list[tuple[str, str]],
    card: dict[str, str],
    max_megapixels: float,
) -> Dataset:
    """Build the folder beside its place, then rename it there."""
    with staging(out) as scratch:
        _refuse_existing(out)  # it may have been made meanwhile
        work = scratch / out.name
        images, annotations = _index(good)
        split = "given" if any("split" in image for image in images) else "grouped"
        lacking = "mixed" if unboxed(images, annotations, split) else "given"
        dataset = Dataset(
            root=work,
            boxes=lacking if annotations else "simulate",
            split=split,
            images=images,
            annotations=annotations,
            **card,
        )
        pairs = [(record, image) for (record, _), image in zip(good, images, strict=True)]
        run(lambda pair: _place(work, *pair, max_megapixels), pairs)
        save(dataset)
        if bad:
            write_text(work / QUARANTINE, quarantine_csv(bad))
        work.rename(out)
    return replace(dataset, root=out)


def unboxed(
    images: Sequence[dict[str, Any]], annotations: Sequence[dict[str, Any]], split: str
) -> list[str]:
    """Names of the manipulated photos to learn from that have a mask and no box.

    A photo of a stated test split needs none: it is scored against its mask.
    """
    boxed = {row["image_id"] for row in annotations}
    return [
        image["file_name"]
        for image in images
        if image["label"] == MANIPULATED
        and image["id"] not in boxed
        and not (split == "given" and image.get("split") == "test")
    ]


def _place(root: Path, record: Record, image: dict[str, Any], max_megapixels: float) -> None:
    """Put one photo and its mask in place; a mask of another format becomes a PNG."""
    link_or_copy(record.photo.resolve(), root / PHOTOS / record.name)
    if record.mask is None:
        return
    if record.mask.suffix.lower() == ".png":
        link_or_copy(record.mask.resolve(), root / image["mask"])
    else:
        mask = open_mask(record.mask, max_megapixels)
        save_grey(root / image["mask"], mask.astype(np.uint8) * 255)


def _index(
    good: list[tuple[Record, Scan]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """COCO images and annotations, in the order of the rows; what is not known has no key."""
    stems = Counter(posixpath.splitext(record.name)[0] for record, _ in good)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (record, seen) in enumerate(good, start=1):
        stem = posixpath.splitext(record.name)[0]
        mask = f"{MASKS}/{record.name if stems[stem] > 1 else stem}.png"
        image = {
            "id": number,
            "file_name": record.name,
            "width": seen.size[0],
            "height": seen.size[1],
            "label": record.label,
            "split": record.split,
            "kind": record.kind,
            "source": record.source,
            # All of them: which photos they link is known when the data set is complete.
            "origins": list(record.origins) or None,
            "mask": mask if record.mask is not None else None,
        }
        images.append(_known(image))
        for box in record.boxes:
            bbox = clipped(box, *seen.size)
            annotation = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": 1,
                "bbox": bbox,
                "area": bbox[2] * bbox[3],
                "iscrowd": 0,
                "annotator": box.annotator,
                "seconds": box.seconds,
            }
            annotations.append(_known(annotation))
    return images, annotations


def _known(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value is not None}


@contextmanager
def staging(root: Path) -> Iterator[Path]:
    """An empty folder beside a data set's, on the same file system; removed at the end.

    Other processes that want to change the same data set (which need not exist yet) wait; what a
    killed one left is removed.
    """
    new = not root.parent.exists()
    root.parent.mkdir(parents=True, exist_ok=True)
    try:
        with alone(root.parent / f".{root.name}.lock"):
            # tempfile adds eight characters: no other data set's folder matches.
            for left in root.parent.glob(f".{glob.escape(root.name)}-????????"):
                shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{root.name}-") as folder:
                yield Path(folder)
    finally:
        if new:
            with suppress(OSError):  # it is not empty: the data set was made
                root.parent.rmdir()


@contextmanager
def opened(
    source: Path, scratch: Path, settings: Prepare, progress: Progress | None = None
) -> Iterator[Path]:
    """A data set's folder: `source` itself if it is one, else a temporary import below `scratch`.

    Raises:
        InputError: nothing readable, or more than `settings.max_quarantined` unusable photos.
    """
    if (source / CARD).is_file():
        yield source
        return
    scratch.mkdir(parents=True, exist_ok=True)
    name = source.resolve().name or "data"
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".data-") as folder:
        root = Path(folder) / "data"
        imported = import_dataset(
            source,
            root,
            name=name,
            licence="unknown",
            source_name=name,
            quarantine=True,
            max_megapixels=settings.max_megapixels,
            progress=progress,
        )
        refuse_many(imported.quarantined, settings.max_quarantined, source)
        yield root
