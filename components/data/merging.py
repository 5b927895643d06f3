"""Adding to a data set: new photos and boxes are checked as any import, then the index grows.

Photos are put in place first and the index is replaced last, in one step: whoever reads the data
set meanwhile, or after a crash, sees it as it was. Taking the same source in twice adds nothing.
What is said of a photo that is there already is never changed: a source that says otherwise is
listed, for a person to decide.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from components.data.dataset import MASKS, PHOTOS, Dataset, check, load, save
from components.data.images import MAX_MEGAPIXELS
from components.data.importing import QUARANTINE, Imported, import_dataset, quarantine_csv
from components.data.manifest import MANIPULATED
from components.data.scan import Progress
from components.data.workplace import workplace
from components.errors import InputError
from components.files import link_or_copy, sha256_file, write_text

_ROUNDING = 0.5  # pixels


@dataclass(frozen=True)
class Merged:
    """What was added.

    Attributes:
        dataset: as it is now.
        added: names of the new photos.
        known: photos that were there before, byte for byte, with the same label and boxes.
        rejected: rows left out as (photo, reason).
    """

    dataset: Dataset
    added: list[str]
    known: int
    rejected: list[tuple[str, str]]
    notes: list[str]


def merge(
    source: Path,
    root: Path,
    *,
    format: str | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
    progress: Progress | None = None,
) -> Merged:
    """Add the usable photos of a source to a data set; list the others.

    Args:
        source: a file or folder in a readable format.
        root: the data set's folder; its licence, source and split rule stay.
        format: a name in `formats.registry`; None detects it.
        max_megapixels: larger photos are rejected.
        progress: called as `progress(done, total)` with photos checked.

    Raises:
        InputError: no such data set or one that cannot be written again (a box of it is not
            finite), a structurally wrong source, no usable photo in it, or masks where the data
            set has boxes.
    """
    with workplace(root) as scratch:
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
        _check_kind(dataset, made, source)
        return _join(dataset, made)


def _check_kind(dataset: Dataset, made: Imported, source: Path) -> None:
    """Boxes are either given or drawn from masks, for a whole data set."""
    new = made.dataset
    boxed = any(image["label"] == MANIPULATED for image in new.images)
    if boxed and dataset.boxes != new.boxes:
        kinds = {"given": "boxes", "simulate": "masks alone"}
        raise InputError(
            f"brings {kinds[new.boxes]}, but {dataset.name} is made of {kinds[dataset.boxes]}",
            where=str(source),
            mend="import it under a name of its own",
        )


def _join(dataset: Dataset, made: Imported) -> Merged:
    """Sort new from known and clashing photos, place the new ones, replace the index."""
    new = made.dataset
    sizes = _by_size(dataset)
    before, stated = _stated(dataset), _stated(new)
    rejected = list(made.quarantined)
    known, fresh = 0, []
    for image in new.images:
        name = image["file_name"]
        twin = _twin(new.root / PHOTOS / name, dataset.root / PHOTOS, sizes)
        if twin not in (None, name):
            rejected.append((name, f"the same file as {twin}"))
        elif twin is not None:
            if changed := _changed(before[name], stated[name]):
                rejected.append((name, changed))
            known += not changed
        elif name in before:
            rejected.append((name, "another photo of this name is there"))
        elif _lacks_box(dataset, image, stated[name]):
            rejected.append((name, "manipulated, but has no box"))
        else:
            fresh.append(image)
    grown = _grow(dataset, new, fresh)
    if fresh:
        # The list belongs to the data set's hash: rows alone would have everything trained anew.
        if rejected:
            _list(dataset.root / QUARANTINE, rejected)
        save(grown)
    return Merged(grown, [image["file_name"] for image in fresh], known, rejected, made.notes)


class _Stated(NamedTuple):
    """What a data set says of a photo; boxes are float64 (N, 4), COCO `x, y, width, height`."""

    label: str
    boxes: np.ndarray


def _stated(dataset: Dataset) -> dict[str, _Stated]:
    """Label and boxes by photo."""
    boxes: dict[Any, list[list[float]]] = {image["id"]: [] for image in dataset.images}
    for row in dataset.annotations:
        boxes[row["image_id"]].append(row["bbox"])
    return {
        image["file_name"]: _Stated(
            image["label"], np.array(boxes[image["id"]], np.float64).reshape(-1, 4)
        )
        for image in dataset.images
    }


def _changed(before: _Stated, now: _Stated) -> str | None:
    """What is said otherwise of a known photo, or None; exporters round, so boxes nearly agree."""
    if before.label != now.label:
        return f"known, but as {before.label}"
    apart = np.abs(before.boxes[:, None] - now.boxes[None]).max(axis=2)
    near = apart < _ROUNDING
    same = len(before.boxes) == len(now.boxes) and near.any(axis=0).all() and near.any(axis=1).all()
    return None if same else "known, but with other boxes"


def _lacks_box(dataset: Dataset, image: dict[str, Any], stated: _Stated) -> bool:
    """Whether a mask alone is too little: boxes are learned from, only tests go by masks."""
    tests = dataset.split == "given" and image.get("split") == "test"
    boxed = dataset.boxes == "given" and image["label"] == MANIPULATED
    return boxed and not tests and not len(stated.boxes)


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


def _grow(dataset: Dataset, new: Dataset, fresh: list[dict[str, Any]]) -> Dataset:
    """The data set with fresh photos under new numbers; their files are put in place."""
    first = _next(dataset.images)
    numbers = {image["id"]: first + place for place, image in enumerate(fresh)}
    images = [_place(dataset.root, new.root, image, numbers[image["id"]]) for image in fresh]
    boxes = [row for row in new.annotations if row["image_id"] in numbers]
    start = _next(dataset.annotations)
    annotations = [
        {**row, "id": start + place, "image_id": numbers[row["image_id"]]}
        for place, row in enumerate(boxes)
    ]
    return replace(
        dataset,
        images=[*dataset.images, *images],
        annotations=[*dataset.annotations, *annotations],
    )


def _next(rows: list[dict[str, Any]]) -> int:
    """A number above every number used as an id."""
    return 1 + max((row["id"] for row in rows if isinstance(row["id"], int)), default=0)


def _place(root: Path, source: Path, image: dict[str, Any], number: int) -> dict[str, Any]:
    """Put one photo and its mask in; gives its row of the index."""
    name = image["file_name"]
    link_or_copy(source / PHOTOS / name, root / PHOTOS / name)
    row = {**image, "id": number}
    if mask := image.get("mask"):
        # The photo's whole name, suffix included: it is new, so its mask's name is.
        row["mask"] = f"{MASKS}/{name}.png"
        link_or_copy(source / mask, root / row["mask"])
    return row


def _list(path: Path, rejected: list[tuple[str, str]]) -> None:
    """Add rows to the data set's list of what was left out."""
    before: list[tuple[str, str]] = []
    if path.is_file():
        with open(path, newline="", encoding="utf-8") as file:
            before = [(row[0], row[1]) for row in csv.reader(file) if len(row) == 2][1:]
    rows = list(dict.fromkeys([*before, *rejected]))
    if rows != before:
        write_text(path, quarantine_csv(rows))
