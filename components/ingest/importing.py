"""Import: a source in any readable format becomes a data set's folder, whole or not at all.

Everything is checked before anything is written. Bad rows refuse the import unless they are to be
quarantined; then they are listed in `quarantine.csv` and the rest is imported. The folder is built
beside its place and renamed into it, so nothing half made is ever seen and nothing is overwritten.
"""

from __future__ import annotations

import posixpath
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from components.core.errors import InputError
from components.core.files import link_or_copy, printable, write_text
from components.core.images import MAX_MEGAPIXELS, open_mask, save_grey
from components.core.params import Prepare
from components.core.progress import Progress
from components.data.dataset import CARD, MASKS, PHOTOS, Dataset, save
from components.data.manifest import MANIPULATED
from components.data.scan import (
    QUARANTINE,
    Job,
    Scan,
    quarantine_csv,
    refuse_many,
    run,
    scan,
)
from components.ingest.checks import clipped, problem
from components.ingest.formats import registry
from components.ingest.formats.record import Box, Record
from components.ingest.staging import staging


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
        validated: the photos go to a data set with a `val` of its own: a given one stays `val`.
        max_megapixels: larger photos are bad rows.
        progress: called as `progress(done, total)` with photos checked.

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
    both = _of_both_labels(checked)
    reasons = [
        (printable(record.name), problem(record, seen) or both.get(seen.sha256))
        for record, seen in checked
    ]
    bad = [(name, reason) for name, reason in reasons if reason]
    good = [pair for pair, (_, reason) in zip(checked, reasons, strict=True) if not reason]
    _refuse(source, bad, len(good), quarantine)
    records, notes = _test_split([record for record, _ in good], validated)
    good = sorted(zip(records, (seen for _, seen in good), strict=True), key=lambda p: p[0].name)
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


def _refuse_existing(out: Path) -> None:
    if out.exists():
        raise InputError(
            "exists already", where=str(out), hint="choose another name or remove it first"
        )


def _of_both_labels(checked: Sequence[tuple[Record, Scan]]) -> dict[str, str]:
    """Why files that stand there as authentic and as manipulated are bad, by their hash."""
    labels: dict[str, set[str]] = {}
    for record, seen in checked:
        if not seen.problem:
            labels.setdefault(seen.sha256, set()).add(record.label)
    reason = "the same file is in the data set with the other label"
    return {sha256: reason for sha256, found in labels.items() if len(found) > 1}


def _refuse(source: Path, bad: list[tuple[str, str]], good: int, quarantine: bool) -> None:
    """Raise InputError for bad rows that are not to be quarantined, or when no good one is left."""
    more = f" (and {len(bad) - 1} more bad photos)" if len(bad) > 1 else ""
    if bad and not quarantine:
        raise InputError(
            f"{bad[0][0]}: {bad[0][1]}{more}",
            where=str(source),
            hint="correct them, or leave them out with --quarantine",
        )
    if not good:
        raise InputError(f"no usable photo: {bad[0][0]}: {bad[0][1]}{more}", where=str(source))


def _test_split(records: list[Record], validated: bool) -> tuple[list[Record], list[str]]:
    """Where the given splits name no `test`, the `val` that was held back is the test split.

    Selecting on it would leave nothing to test on; validation photos are then carved out of
    `train` by source group when the manifest is made.
    """
    given = {record.split for record in records}
    if validated or "test" in given or not {"train", "val"} <= given:
        return records, []
    moved = [
        replace(record, split="test") if record.split == "val" else record for record in records
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
        _refuse_existing(out)  # made while this import waited or checked its photos
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

    A photo of a given test split needs none: its mask is what is compared.
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
    """Bring one photo and its mask in; a mask of another format becomes a PNG."""
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
    """COCO images and annotations, in the order of the rows."""
    stems = Counter(posixpath.splitext(record.name)[0] for record, _ in good)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (record, seen) in enumerate(good, start=1):
        width, height = seen.size
        extra: dict[str, Any] = {"label": record.label, "split": record.split}
        extra |= {"kind": record.kind, "source": record.source}
        # All of them: which photos they link is known when the data set is whole.
        extra["origins"] = list(record.origins) or None
        if record.mask is not None:
            stem = posixpath.splitext(record.name)[0]
            extra["mask"] = f"{MASKS}/{record.name if stems[stem] > 1 else stem}.png"
        image = {"id": number, "file_name": record.name, "width": width, "height": height}
        images.append(image | {key: value for key, value in extra.items() if value is not None})
        for box in record.boxes:
            bbox = clipped(box, width, height)
            annotations.append(_annotation(len(annotations) + 1, number, box, bbox))
    return images, annotations


def _annotation(number: int, image: int, box: Box, bbox: list[float]) -> dict[str, Any]:
    """One box as a COCO annotation."""
    row: dict[str, Any] = {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "bbox": bbox,
        "area": bbox[2] * bbox[3],
        "iscrowd": 0,
    }
    extra = {"annotator": box.annotator, "seconds": box.seconds}
    return row | {key: value for key, value in extra.items() if value is not None}


@contextmanager
def opened(
    source: Path, scratch: Path, settings: Prepare, progress: Progress | None = None
) -> Iterator[Path]:
    """A data set's folder: `source` itself if it is one, else imported for the time being.

    Args:
        source: a data set's folder, or a file or folder in any importable format.
        scratch: where a temporary data set may be made.
        settings: `max_quarantined` photos may be unusable, `max_megapixels` limits each.
        progress: called as progress(done, total) with photos checked.

    Raises:
        InputError: nothing readable, or too many unusable photos.
    """
    if (source / CARD).is_file():
        yield source
        return
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".data-") as folder:
        root = Path(folder) / "data"
        imported = import_dataset(
            source,
            root,
            name=source.resolve().name or "data",
            licence="unknown",
            source_name=source.resolve().name or "data",
            quarantine=True,
            max_megapixels=settings.max_megapixels,
            progress=progress,
        )
        refuse_many(imported.quarantined, settings.max_quarantined, source)
        yield root
