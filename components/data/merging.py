"""Adding to a data set: new photos and boxes are checked as any import, then the index grows.

Photos are put in place first and the index is replaced last, in one step: whoever reads the data
set meanwhile, or after a crash, sees it as it was. Taking the same source in twice adds nothing.
"""

from __future__ import annotations

import csv
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components.data.dataset import MASKS, PHOTOS, Dataset, load, save
from components.data.images import MAX_MEGAPIXELS
from components.data.importing import QUARANTINE, Imported, import_dataset, quarantine_csv
from components.data.scan import Progress
from components.errors import InputError
from components.files import link_or_copy, sha256_file, write_text


@dataclass(frozen=True)
class Merged:
    """What was added.

    Attributes:
        dataset: as it is now.
        added: names of the new photos.
        known: photos that were there before, byte for byte.
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
        InputError: no such data set, a structurally wrong source, no usable photo in it, or
            masks where the data set has boxes.
    """
    dataset = load(root)
    # In the same parent, so that photos are linked in, not copied twice.
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{root.name}-") as scratch:
        made = import_dataset(
            source,
            Path(scratch) / "new",
            name=dataset.name,
            licence=dataset.licence,
            source_name=dataset.source,
            format=format,
            quarantine=True,
            max_megapixels=max_megapixels,
            progress=progress,
        )
        _check_kind(dataset, made, source)
        return _join(dataset, made)


def _check_kind(dataset: Dataset, made: Imported, source: Path) -> None:
    """Boxes are either given or drawn from masks, for a whole data set."""
    new = made.dataset
    boxed = any(image["label"] == "manipulated" for image in new.images)
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
    names = {image["file_name"] for image in dataset.images}
    sizes = _by_size(dataset)
    rejected = list(made.quarantined)
    known, fresh = 0, []
    for image in new.images:
        photo = new.root / PHOTOS / image["file_name"]
        twin = _twin(photo, dataset.root / PHOTOS, sizes)
        if twin is None and image["file_name"] in names:
            rejected.append((image["file_name"], "another photo of this name is there"))
        elif twin is None:
            fresh.append(image)
        elif twin == image["file_name"]:
            known += 1
        else:
            rejected.append((image["file_name"], f"the same file as {twin}"))
    grown = _grow(dataset, new, fresh)
    if fresh:
        # The list belongs to the data set's hash: rows alone would have everything trained anew.
        if rejected:
            _list(dataset.root / QUARANTINE, rejected)
        save(grown)
    return Merged(grown, [image["file_name"] for image in fresh], known, rejected, made.notes)


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
