"""Import: a source in any readable format becomes a data set's folder, whole or not at all.

Everything is checked before anything is written. Bad rows refuse the import unless they are to be
quarantined, that is, left out. `import.csv` says what became of every photo, row and file of the
source. The folder is built beside its place and renamed into it, so nothing half made is ever seen
and nothing is overwritten.
"""

from __future__ import annotations

import glob
import os
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
from components.core.files import alone, printable, sha256_bytes
from components.core.images import MAX_MEGAPIXELS, open_mask, save_grey
from components.core.params import Prepare
from components.core.paths import TOMBSTONES
from components.core.progress import Progress
from components.data.dataset import CARD, MASKS, PHOTOS, Dataset, save
from components.data.manifest import MANIPULATED
from components.data.scan import refuse_many, run
from components.ingest import outcomes
from components.ingest.checks import (
    Seen,
    clipped,
    look,
    problem,
    refuse_inverted,
    refuse_shares,
    shown_name,
)
from components.ingest.formats import registry
from components.ingest.formats.record import Record
from components.ingest.outcomes import LEFT_OUT, NOTED, TAKEN, USED, Outcome


@dataclass(frozen=True)
class Imported:
    """What an import made.

    Attributes:
        dataset: the data set.
        outcomes: what became of every photo, row and file of the source, as in `import.csv`.
        quarantined: of the photos left out, those that refuse an import, as (photo, reason).
        notes: remarks on the whole.
    """

    dataset: Dataset
    outcomes: list[Outcome]
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
    authentic: bool = False,
    inverted: bool | None = None,
    quarantine: bool = False,
    validated: bool = False,
    dry_run: bool = False,
    hash_names: bool = False,
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
        authentic: all photos are said to be authentic; no annotation is needed.
        inverted: whether masks are white where nothing was done; None refuses those that look so.
        quarantine: leave bad rows out instead of refusing the import.
        validated: the photos go to a data set with a `val` of its own, so a stated `val` stays.
        dry_run: check everything and write nothing.
        hash_names: name photos by the SHA-256 of their bytes; no name of the source is kept.
        max_megapixels: larger photos are bad rows.
        progress: called with photos checked.

    Raises:
        InputError: `out` exists, the source is structurally wrong, or a row is bad.
    """
    _refuse_existing(out)
    reading = registry.read(source, format, authentic=authentic)
    seen = run(
        lambda record: look(record, max_megapixels, invert=bool(inverted)),
        reading.records,
        progress,
    )
    checked = list(zip(reading.records, seen, strict=True))
    refuse_shares(source, checked)
    refuse_inverted(source, checked, inverted)
    good, bad = _sorted_out(source, checked)
    if bad and not (quarantine and good):
        refuse(source, bad, quarantine)
    good, notes = _test_split(good, validated)
    if hash_names:
        good = _pseudonymous(good)
    good.sort(key=lambda pair: pair[0].name)
    card = {"name": name, "licence": licence, "source": source_name}
    made = _indexed(out, good, {key: printable(value) for key, value in card.items()})
    left = [*bad, *((shown_name(what), reason) for what, reason in reading.left)]
    used = [Outcome(shown_name(name), TAKEN, USED) for name in reading.used]
    rows = [*_taken(good), *used, *(Outcome(what, LEFT_OUT, reason) for what, reason in left)]
    if hash_names:  # what else became of the source is told by its names
        rows = [Outcome(record.name, TAKEN) for record, _ in good]
    if not dry_run:
        _write(made, good, rows, bool(inverted), max_megapixels)
    if made.boxes == "mixed":
        drawn = len(unboxed(made.images, made.annotations, made.split))
        notes.append(f"photos without a box whose boxes are drawn from their masks: {drawn}")
    return Imported(made, rows, bad, [*reading.notes, *notes])


def _pseudonymous(good: Sequence[tuple[Record, Seen]]) -> list[tuple[Record, Seen]]:
    """Photos named by their bytes, each once, with hashes of what they were made from.

    A plain hash is enough for photos: the manifest has it anyway, and only who has the photo can
    compute it.
    """
    found: dict[str, tuple[Record, Seen]] = {}
    for record, seen in good:
        name = seen.sha256 + posixpath.splitext(record.name)[1].lower()
        origins = tuple(sha256_bytes(origin.encode()) for origin in record.origins)
        found.setdefault(name, (replace(record, name=name, origins=origins, notes=()), seen))
    return list(found.values())


def _sorted_out(
    source: Path, checked: Sequence[tuple[Record, Seen]]
) -> tuple[list[tuple[Record, Seen]], list[tuple[str, str]]]:
    """The usable photos, and the others with the reason."""
    contradicted = _of_both_labels(checked)
    good, bad = [], []
    for record, seen in checked:
        reason = problem(record, seen)
        if not reason and seen.sha256 in contradicted:
            reason = "the same file is in the data set with the other label"
        if not reason and (stone := TOMBSTONES / f"{seen.sha256}.json").is_file():
            reason = f"was erased: {stone}"  # whether it is forged, the audit says
        if reason:
            bad.append((shown_name(record.name), reason))
        elif posixpath.normpath(record.name) != record.name or record.name.startswith("../"):
            raise InputError(f"path {record.name!r} leaves this folder", where=str(source))
        else:
            good.append((record, seen))
    return good, bad


def _taken(good: Sequence[tuple[Record, Seen]]) -> Iterator[Outcome]:
    """A row for each photo that is taken, or one for each of its notes."""
    for record, seen in good:
        notes = [*record.notes, *filter(None, (box.note for box in record.boxes))]
        notes += seen.mask.notes if seen.mask else ()
        for note in dict.fromkeys(notes):
            yield Outcome(record.name, NOTED, printable(note))
        if not notes:
            yield Outcome(record.name, TAKEN)


def _refuse_existing(out: Path) -> None:
    if out.exists():
        hint = "choose another name or remove it first"
        raise InputError("exists already", where=str(out), hint=hint)


def _of_both_labels(checked: Sequence[tuple[Record, Seen]]) -> set[str]:
    """Hashes of the files that are listed both as authentic and as manipulated."""
    labels: dict[str, set[str]] = {}
    for record, seen in checked:
        if not seen.problem:
            labels.setdefault(seen.sha256, set()).add(record.label)
    return {sha256 for sha256, found in labels.items() if len(found) > 1}


def refuse(source: Path, bad: Sequence[tuple[str, str]], quarantine: bool) -> None:
    """Raise InputError for bad rows that are not to be quarantined, or when no good one is left."""
    more = f" (and {len(bad) - 1} more bad photos)" if len(bad) > 1 else ""
    what = f"{bad[0][0]}: {bad[0][1]}{more}"
    if not quarantine:
        hint = "correct them, or leave them out with --quarantine"
        raise InputError(what, where=str(source), hint=hint)
    raise InputError(f"no usable photo: {what}", where=str(source))


def _test_split(
    good: list[tuple[Record, Seen]], validated: bool
) -> tuple[list[tuple[Record, Seen]], list[str]]:
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


def _indexed(out: Path, good: list[tuple[Record, Seen]], card: dict[str, str]) -> Dataset:
    """The data set's card and index, not yet on disk."""
    images, annotations = _index(good)
    split = "given" if any("split" in image for image in images) else "grouped"
    lacking = "mixed" if unboxed(images, annotations, split) else "given"
    return Dataset(
        root=out,
        boxes=lacking if annotations else "simulate",
        split=split,
        images=images,
        annotations=annotations,
        **card,
    )


def _write(
    made: Dataset,
    good: list[tuple[Record, Seen]],
    rows: Sequence[Outcome],
    invert: bool,
    max_megapixels: float,
) -> None:
    """Build the folder beside its place, then rename it there."""
    with staging(made.root) as scratch:
        _refuse_existing(made.root)  # it may have been made meanwhile
        work = scratch / made.root.name
        pairs = [(record, image) for (record, _), image in zip(good, made.images, strict=True)]
        files = [f"{PHOTOS}/{record.name}" for record, _ in pairs]
        files += [image["mask"] for image in made.images if "mask" in image]
        for folder in {posixpath.dirname(file) for file in files}:
            (work / folder).mkdir(parents=True, exist_ok=True)
        run(lambda pair: _place(str(work), *pair, invert, max_megapixels), pairs)
        save(replace(made, root=work))
        outcomes.write(work / outcomes.TABLE, rows)
        work.rename(made.root)


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


def _place(
    root: str, record: Record, image: dict[str, Any], invert: bool, max_megapixels: float
) -> None:
    """Put one photo and its mask in place; a mask of another format becomes a PNG."""
    _put(str(record.photo), f"{root}/{PHOTOS}/{record.name}")
    if record.mask is None:
        return
    place = f"{root}/{image['mask']}"
    if record.mask.suffix.lower() == ".png" and not invert:
        _put(str(record.mask), place)
    else:
        mask = open_mask(record.mask, max_megapixels) != invert
        save_grey(place, mask.astype(np.uint8) * 255)


def _put(file: str, place: str) -> None:
    """Hard-link a file, or copy it, to a new place in a folder that nobody else sees."""
    try:
        os.link(os.path.realpath(file) if os.path.islink(file) else file, place)
    except FileExistsError:  # a copy would be written into the linked file
        what = "another photo has this name, but for upper and lower case"
        raise InputError(what, where=place, hint="rename one of them") from None
    except OSError:
        shutil.copyfile(file, place)


def _index(
    good: list[tuple[Record, Seen]],
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
                "segmentation": box.region,
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
