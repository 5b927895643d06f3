"""Adding to a data set: new photos and boxes are checked as any import, then the index grows.

Photos are put in place first and the index is replaced last, in one step: readers meanwhile, or
after a crash, see the data set as it was. Adding the same source twice adds nothing. Annotations of
a photo already in the data set are never changed: a source that differs is listed, for a person to
decide. A true mask for a known photo that has none is added.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from components.core.errors import InputError
from components.core.files import link_or_copy, sha256_file, write_text
from components.core.images import MAX_MEGAPIXELS, open_mask
from components.core.progress import Progress
from components.data.dataset import CARD, INDEX, MASKS, PHOTOS, Dataset, check, load, save
from components.data.scan import QUARANTINE, quarantine_csv
from components.ingest.importing import Imported, import_dataset, staging, unboxed

_ROUNDING = 0.5  # pixels
_LARGEST = 1000.0  # megapixels, the most that params.yaml allows: both masks passed its limit


@dataclass(frozen=True)
class Merged:
    """What was added."""

    dataset: Dataset  # as it is now
    added: list[str]  # names of the new photos
    masked: list[str]  # names of known photos that got their true mask
    known: int  # photos that were there before, byte for byte, with the same label and boxes
    rejected: list[tuple[str, str]]  # rows left out as (photo, reason)
    notes: list[str]  # remarks of the import


def merge(
    source: Path,
    root: Path,
    *,
    format: str | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
    progress: Progress | None = None,
) -> Merged:
    """Add the usable photos of a source to the data set in the folder `root`; list the others.

    Parameters are as in `import_dataset`; the data set's licence, source and split rule stay.

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
            quarantine=True,
            validated=any(image.get("split") == "val" for image in dataset.images),
            max_megapixels=max_megapixels,
            progress=progress,
        )
        return _join(dataset, made)


def _join(dataset: Dataset, made: Imported) -> Merged:
    """Sort new from known and clashing photos, place the new ones, replace the index."""
    new = made.dataset
    sizes = _by_size(dataset)
    before, now = _annotated(dataset), _annotated(new)
    rejected = list(made.quarantined)
    known, fresh = 0, []
    masks: dict[str, Path] = {}
    for image in new.images:
        name = image["file_name"]
        twin = _twin(new.root / PHOTOS / name, dataset.root / PHOTOS, sizes)
        if twin is None:
            if name in before:
                rejected.append((name, "there is already another photo of this name"))
            else:
                fresh.append(image)
        elif changed := _changed(before[twin], now[name]):
            rejected.append((name, changed))
        else:
            mask = now[name].mask
            if mask and not before[twin].mask:
                masks.setdefault(twin, mask)
            elif twin != name:
                rejected.append((name, f"the same file as {twin}"))
            known += twin == name
    grown = _grow(dataset, new, fresh, masks)
    if fresh or masks:
        # The list is part of the data set's hash: new rows alone would cause a new training.
        if rejected:
            _list(dataset.root / QUARANTINE, rejected)
        save(grown)
    added = [image["file_name"] for image in fresh]
    return Merged(grown, added, sorted(masks), known, rejected, made.notes)


class _Annotated(NamedTuple):
    """A photo's annotations in a data set; boxes are float64 (N, 4), `x, y, width, height`."""

    label: str
    boxes: np.ndarray
    mask: Path | None


def _annotated(dataset: Dataset) -> dict[str, _Annotated]:
    """Label, boxes and mask by photo."""
    boxes: dict[Any, list[list[float]]] = {image["id"]: [] for image in dataset.images}
    for row in dataset.annotations:
        boxes[row["image_id"]].append(row["bbox"])
    return {
        image["file_name"]: _Annotated(
            image["label"],
            np.array(boxes[image["id"]], np.float64).reshape(-1, 4),
            dataset.root / image["mask"] if image.get("mask") else None,
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
) -> Dataset:
    """The data set with fresh photos under new numbers and more masks; files are put in place."""
    numbers = {image["id"]: number for number, image in enumerate(fresh, _next(dataset.images))}
    boxes = [row for row in new.annotations if row["image_id"] in numbers]
    kind = _kind(dataset, fresh, boxes)
    added = [
        {**row, "id": number, "image_id": numbers[row["image_id"]]}
        for number, row in enumerate(boxes, _next(dataset.annotations))
    ]
    images = [_with_mask(dataset.root, row, masks.get(row["file_name"])) for row in dataset.images]
    for image in fresh:
        name, mask = image["file_name"], image.get("mask")
        link_or_copy(new.root / PHOTOS / name, dataset.root / PHOTOS / name)
        row = {**image, "id": numbers[image["id"]]}
        images.append(_with_mask(dataset.root, row, new.root / mask if mask else None))
    return replace(dataset, boxes=kind, images=images, annotations=[*dataset.annotations, *added])


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


def _with_mask(root: Path, image: dict[str, Any], mask: Path | None) -> dict[str, Any]:
    """A photo's row of the index with a new mask, which is put in place; as it was without one."""
    if mask is None:
        return image
    # The photo's whole name, suffix included: no other photo's mask has it.
    name = f"{MASKS}/{image['file_name']}.png"
    link_or_copy(mask, root / name)
    return {**image, "mask": name}


def _list(path: Path, rejected: list[tuple[str, str]]) -> None:
    """Add rows to the data set's list of what was left out."""
    before: list[tuple[str, str]] = []
    if path.is_file():
        with open(path, newline="", encoding="utf-8") as file:
            before = [(row[0], row[1]) for row in csv.reader(file) if len(row) == 2][1:]
    rows = list(dict.fromkeys([*before, *rejected]))
    if rows != before:
        write_text(path, quarantine_csv(rows))
