"""Adding to a data set: new photos and boxes are checked as any import, then the index grows.

Photos are put in place first and the index is replaced last, in one step: readers meanwhile, or
after a crash, see the data set as it was. Adding the same source twice adds nothing. Annotations of
a photo already in the data set are never changed: a source that differs is listed, for a person to
decide. A true mask for a known photo that has none is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from components.core.errors import InputError
from components.core.files import link_or_copy, sha256_file
from components.core.images import MAX_MEGAPIXELS, open_mask
from components.core.progress import Progress
from components.data.dataset import CARD, INDEX, MASKS, PHOTOS, Dataset, check, load, save
from components.ingest import outcomes
from components.ingest.importing import Imported, import_dataset, staging, unboxed
from components.ingest.outcomes import LEFT_OUT, NOTED, Outcome

_ROUNDING = 0.5  # pixels
_KNOWN = "in the data set already"
_LARGEST = 1000.0  # megapixels, the most that params.yaml allows: both masks passed its limit


@dataclass(frozen=True)
class Merged:
    """What was added."""

    dataset: Dataset  # as it is now
    added: list[str]  # names of the new photos
    masked: list[str]  # names of known photos that got their true mask
    known: int  # photos that were there before, byte for byte, with the same label and boxes
    rejected: list[tuple[str, str]]  # photos left out as (photo, reason)
    outcomes: list[Outcome]  # what became of every photo, row and file of the source
    notes: list[str]  # remarks of the import


def merge(
    source: Path,
    root: Path,
    *,
    format: str | None = None,
    authentic: bool = False,
    inverted: bool | None = None,
    dry_run: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
    progress: Progress | None = None,
) -> Merged:
    """Add the usable photos of a source to the data set in the folder `root`; list the others.

    Parameters are as in `import_dataset`; the data set's licence, source and split rule stay.
    A dry run needs a folder beside the data set for a moment, and leaves it as it is.

    Raises:
        InputError: no such data set or one that cannot be written again (a box of it is not
            finite), a structurally wrong source, or no usable photo in it.
    """
    with staging(root) as scratch:
        dataset = load(root)
        check(dataset)
        made = import_dataset(
            source,
            scratch / "new",
            name=dataset.name,
            licence=dataset.licence,
            source_name=dataset.source,
            format=format,
            authentic=authentic,
            inverted=inverted,
            quarantine=True,
            validated=any(image.get("split") == "val" for image in dataset.images),
            max_megapixels=max_megapixels,
            progress=progress,
        )
        return _join(dataset, made, dry_run)


def _join(dataset: Dataset, made: Imported, dry_run: bool) -> Merged:
    """Sort new from known and clashing photos, place the new ones, replace the index."""
    new = made.dataset
    sizes = _by_size(dataset)
    before, now = _annotated(dataset), _annotated(new)
    clashing: dict[str, str] = {}  # why, by name
    known: dict[str, str] = {}  # the note, by name
    fresh = []
    masks: dict[str, Path] = {}
    for image in new.images:
        name = image["file_name"]
        twin = _twin(new.root / PHOTOS / name, dataset.root / PHOTOS, sizes)
        if twin is None:
            if name in before:
                clashing[name] = "there is already another photo of this name"
            else:
                fresh.append(image)
        elif changed := _changed(before[twin], now[name]):
            clashing[name] = changed
        else:
            mask = now[name].mask
            if mask and not before[twin].mask:
                masks.setdefault(twin, mask)
                known[name] = f"its mask is that of a known photo: {twin}"
            elif twin != name:
                clashing[name] = f"the same file as {twin}"
            else:
                lacking = now[name].outlined and not before[twin].outlined
                known[name] = _KNOWN + (", without its outlines" if lacking else "")
    rows = _outcomes(made.outcomes, clashing, known)
    grown, files = _grow(dataset, new, fresh, masks)
    # The table is part of the data set's hash: new rows alone would cause a new training.
    if (fresh or masks) and not dry_run:
        for file, place in files:
            link_or_copy(file, place)
        new_rows = [row for row in rows if not row.reason.startswith(_KNOWN)]
        outcomes.add(dataset.root / outcomes.TABLE, new_rows)
        save(grown)
    added = [image["file_name"] for image in fresh]
    rejected = [*made.quarantined, *clashing.items()]
    there = sum(name in before for name in known)
    return Merged(grown, added, sorted(masks), there, rejected, rows, made.notes)


def _outcomes(
    made: Sequence[Outcome], clashing: dict[str, str], known: dict[str, str]
) -> list[Outcome]:
    """What became of the source: what was usable of it may still clash, or be known."""
    kept = [
        row
        for row in made
        if row.outcome == LEFT_OUT or not (row.what in clashing or row.what in known)
    ]
    found = [Outcome(name, NOTED, note) for name, note in known.items()]
    clashes = [Outcome(name, LEFT_OUT, reason) for name, reason in clashing.items()]
    return [*kept, *found, *clashes]


class _Annotated(NamedTuple):
    """A photo's annotations in a data set; boxes are float64 (N, 4), `x, y, width, height`."""

    label: str
    boxes: np.ndarray
    mask: Path | None
    outlined: bool  # a box is drawn more finely


def _annotated(dataset: Dataset) -> dict[str, _Annotated]:
    """Label, boxes and mask by photo."""
    boxes: dict[Any, list[list[float]]] = {image["id"]: [] for image in dataset.images}
    outlined = {row["image_id"] for row in dataset.annotations if row.get("segmentation")}
    for row in dataset.annotations:
        boxes[row["image_id"]].append(row["bbox"])
    return {
        image["file_name"]: _Annotated(
            image["label"],
            np.array(boxes[image["id"]], np.float64).reshape(-1, 4),
            dataset.root / image["mask"] if image.get("mask") else None,
            image["id"] in outlined,
        )
        for image in dataset.images
    }


def _changed(before: _Annotated, now: _Annotated) -> str | None:
    """How a known photo is annotated differently now, or None; boxes may differ by rounding."""
    if before.label != now.label:
        return f"known, but as {before.label}"
    if before.mask and now.mask and not _same_mask(before.mask, now.mask):
        return "known, but with another mask"
    if now.mask and not len(now.boxes):
        return None  # a mask alone states nothing about boxes
    apart = np.abs(before.boxes[:, None] - now.boxes[None]).max(axis=2)
    near = apart < _ROUNDING
    same = len(before.boxes) == len(now.boxes) and near.any(axis=0).all() and near.any(axis=1).all()
    return None if same else "known, but with other boxes"


def _same_mask(one: Path, other: Path) -> bool:
    """Whether two masks mark the same pixels, however they are encoded."""
    if sha256_file(one) == sha256_file(other):
        return True
    return np.array_equal(open_mask(one, _LARGEST), open_mask(other, _LARGEST))


def _by_size(dataset: Dataset) -> dict[int, list[str]]:
    """Names of the data set's photos by size in bytes: only equal sizes need a closer look."""
    found: dict[int, list[str]] = {}
    for image in dataset.images:
        size = (dataset.root / PHOTOS / image["file_name"]).stat().st_size
        found.setdefault(size, []).append(image["file_name"])
    return found


def _twin(photo: Path, photos: Path, sizes: dict[int, list[str]]) -> str | None:
    """The name of the data set's photo with the same bytes, or None."""
    alike = sizes.get(photo.stat().st_size, [])
    digest = sha256_file(photo) if alike else ""
    return next((name for name in alike if sha256_file(photos / name) == digest), None)


def _grow(
    dataset: Dataset, new: Dataset, fresh: list[dict[str, Any]], masks: dict[str, Path]
) -> tuple[Dataset, list[tuple[Path, Path]]]:
    """The data set with fresh photos under new numbers and more masks, and (file, place) pairs."""
    numbers = {image["id"]: number for number, image in enumerate(fresh, _next(dataset.images))}
    boxes = [row for row in new.annotations if row["image_id"] in numbers]
    kind = _kind(dataset, fresh, boxes)
    added = [
        {**row, "id": number, "image_id": numbers[row["image_id"]]}
        for number, row in enumerate(boxes, _next(dataset.annotations))
    ]
    new_masks = dict(masks)  # by the photo's name
    files = []
    for image in fresh:
        name = image["file_name"]
        files.append((new.root / PHOTOS / name, dataset.root / PHOTOS / name))
        if image.get("mask"):
            new_masks[name] = new.root / image["mask"]
    # The photo's whole name, suffix included: no other photo's mask has it.
    places = {name: f"{MASKS}/{name}.png" for name in new_masks}
    files += [(new_masks[name], dataset.root / place) for name, place in places.items()]
    images = [
        row | ({"mask": places[row["file_name"]]} if row["file_name"] in places else {})
        for row in (
            *dataset.images,
            *({**image, "id": numbers[image["id"]]} for image in fresh),
        )
    ]
    grown = replace(dataset, boxes=kind, images=images, annotations=[*dataset.annotations, *added])
    return grown, files


def _kind(dataset: Dataset, fresh: list[dict[str, Any]], boxes: list[dict[str, Any]]) -> str:
    """Where the boxes of the larger data set come from.

    Raises:
        InputError: boxes that the data set lists but ignores would be used from now on.
    """
    if dataset.boxes == "given":
        return "mixed" if unboxed(fresh, boxes, dataset.split) else "given"
    if dataset.boxes == "simulate" and boxes and dataset.annotations:
        raise InputError(
            f"new boxes cannot be added: {INDEX} lists boxes that `boxes: simulate` ignores",
            where=str(dataset.root / CARD),
            hint="write `boxes: mixed` to use them, or remove them",
        )
    return "mixed" if boxes else dataset.boxes


def _next(rows: list[dict[str, Any]]) -> int:
    """The first number above all ids."""
    return 1 + max((row["id"] for row in rows if isinstance(row["id"], int)), default=0)
