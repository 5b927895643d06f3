"""Adding to a data set: new photos and boxes are checked as any import, then the index grows.

Photos are put in place first and the index is replaced last, in one step: readers meanwhile, or
after a crash, see the data set as it was. Adding the same source twice adds nothing. Annotations of
a photo already in the data set are changed only on request (`replaces`): else a source that differs
is listed, for a person to decide. A true mask for a known photo that has none is added.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from components.core.errors import InputError
from components.core.files import link_or_copy, sha256_file
from components.core.images import MAX_MEGAPIXELS, open_mask
from components.core.progress import Progress
from components.data.dataset import CARD, INDEX, MASKS, PHOTOS, Dataset, check, load, save
from components.data.manifest import AUTHENTIC
from components.ingest import outcomes
from components.ingest.corrections import change, corrected, near
from components.ingest.importing import Imported, import_dataset, staging, unboxed
from components.ingest.outcomes import LEFT_OUT, NOTED, Outcome

_KNOWN = "in the data set already"
_PSEUDONYM = re.compile(r"[0-9a-f]{64}\.")
_LARGEST = 1000.0  # megapixels, the most that params.yaml allows: both masks passed its limit


@dataclass(frozen=True)
class Merged:
    """What was added."""

    dataset: Dataset  # as it is now
    added: list[str]  # names of the new photos
    masked: list[str]  # names of known photos that got their true mask
    replaced: list[str]  # names of known photos whose boxes or label changed
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
    replaces: bool = False,
    dry_run: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
    progress: Progress | None = None,
) -> Merged:
    """Add the usable photos of a source to the data set in the folder `root`; list the others.

    Parameters are as in `import_dataset`; the data set's licence, source and split rule stay, and
    so does that its photos are named by their hashes.
    With `replaces` known photos get the label and boxes of the source and keep their true mask,
    split, group, source and origins. A dry run needs a folder beside the data set for a moment, and
    leaves it as it is.

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
            hash_names=all(_PSEUDONYM.match(image["file_name"]) for image in dataset.images),
            max_megapixels=max_megapixels,
            progress=progress,
        )
        return _join(dataset, made, replaces, dry_run)


def _join(dataset: Dataset, made: Imported, replaces: bool, dry_run: bool) -> Merged:
    """Place the new photos and masks, replace the index."""
    found = _sorted_out(dataset, made.dataset, replaces)
    rows = _outcomes(made.outcomes, found)
    grown, files = _grow(dataset, made.dataset, found)
    # The table is part of the data set's hash: new rows alone would cause a new training.
    if (found.fresh or found.masks or found.corrections) and not dry_run:
        for file, place in files:
            link_or_copy(file, place)
        new_rows = [row for row in rows if not row.reason.startswith(_KNOWN)]
        outcomes.add(dataset.root / outcomes.TABLE, new_rows)
        save(grown)
    names = {image["file_name"] for image in dataset.images}
    there = {name for name in found.known if replaces or name in names} - found.changed.keys()
    return Merged(
        dataset=grown,
        added=[image["file_name"] for image in found.fresh],
        masked=sorted(found.masks),
        replaced=sorted(found.corrections),
        known=len(there),
        rejected=[*made.quarantined, *found.clashing.items()],
        outcomes=rows,
        notes=made.notes,
    )


@dataclass(frozen=True)
class _Found:
    """What a source has: new photos, and by name what of it concerns known ones."""

    fresh: list[dict[str, Any]] = field(default_factory=list)
    masks: dict[str, Path] = field(default_factory=dict)  # by the name in the data set
    corrections: dict[str, _Annotated] = field(default_factory=dict)  # likewise
    known: dict[str, str] = field(default_factory=dict)  # the note, by the name in the source
    changed: dict[str, str] = field(default_factory=dict)  # likewise
    clashing: dict[str, str] = field(default_factory=dict)  # why, likewise


def _sorted_out(dataset: Dataset, new: Dataset, replaces: bool) -> _Found:
    """Sort new from known and clashing photos."""
    found, sizes = _Found(), _by_size(dataset)
    before, now = _annotated(dataset), _annotated(new)
    met: dict[str, str] = {}  # the source's name of a known photo
    # A photo that has its name in the data set goes before a renamed copy of it.
    for image in sorted(new.images, key=lambda image: image["file_name"] not in before):
        name = image["file_name"]
        twin = _twin(new.root / PHOTOS / name, name, dataset.root / PHOTOS, sizes)
        if twin is None:
            if name in before:
                found.clashing[name] = "there is already another photo of this name"
            else:
                found.fresh.append(image)
        elif replaces and met.setdefault(twin, name) != name:
            found.clashing[name] = f"the same file as {met[twin]}"
        elif problem := _problem(before[twin], now[name], replaces):
            found.clashing[name] = problem
        else:
            _add_known(found, name, twin, before[twin], now[name], replaces)
    return found


def _add_known(
    found: _Found, name: str, twin: str, before: _Annotated, now: _Annotated, replaces: bool
) -> None:
    """Sort out a known photo, called `name` in the source and `twin` in the data set."""
    renamed = f"; in the data set it is {twin}" if twin != name else ""
    if replaces and (note := _correct(twin, before, now, found.corrections)):
        found.changed[name] = note + renamed
    if now.mask and not before.mask:
        found.masks.setdefault(twin, now.mask)
        found.known[name] = f"its mask is that of a known photo: {twin}"
    elif renamed and not replaces:
        found.clashing[name] = f"the same file as {twin}"
    elif name not in found.changed:
        lacking = not replaces and now.outlined and not before.outlined
        found.known[name] = _KNOWN + (", without its outlines" if lacking else renamed)


def _outcomes(made: Sequence[Outcome], found: _Found) -> list[Outcome]:
    """What became of the source: what was usable of it may still clash, or be known."""
    known, changed, clashing = found.known, found.changed, found.clashing
    kept = [
        row
        for row in made
        if row.outcome == LEFT_OUT
        or (row.what in changed and row.outcome == NOTED)
        or not (row.what in clashing or row.what in known or row.what in changed)
    ]
    noted = [Outcome(name, NOTED, note) for name, note in (*known.items(), *changed.items())]
    clashes = [Outcome(name, LEFT_OUT, reason) for name, reason in clashing.items()]
    return [*kept, *noted, *clashes]


class _Annotated(NamedTuple):
    """A photo's row in a data set's index, with its annotations and mask."""

    image: dict[str, Any]
    rows: list[dict[str, Any]]
    mask: Path | None

    @property
    def label(self) -> str:
        return str(self.image["label"])

    @property
    def outlined(self) -> bool:
        """Whether a box is drawn more finely."""
        return any(row.get("segmentation") for row in self.rows)


def _annotated(dataset: Dataset) -> dict[str, _Annotated]:
    """Row, annotations and mask by photo."""
    rows: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in dataset.images}
    for row in dataset.annotations:
        rows[row["image_id"]].append(row)
    return {
        image["file_name"]: _Annotated(
            image,
            rows[image["id"]],
            dataset.root / image["mask"] if image.get("mask") else None,
        )
        for image in dataset.images
    }


def _problem(before: _Annotated, now: _Annotated, replaces: bool) -> str | None:
    """Why the annotations of a known photo are not taken, or None; boxes may differ by rounding."""
    if before.label != now.label and not replaces:
        return f"known, but as {before.label}"
    if before.label != now.label == AUTHENTIC and before.mask:
        return "authentic now, but known with a true mask"
    if before.mask and now.mask and not _same_mask(before.mask, now.mask):
        return "known, but with another mask"
    if replaces or (now.mask and not now.rows):
        return None  # a mask alone states nothing about boxes
    close = near(before.rows, now.rows)
    same = len(before.rows) == len(now.rows) and close.any(axis=0).all() and close.any(axis=1).all()
    return None if same else "known, but with other boxes: --replace takes them"


def _correct(
    name: str, before: _Annotated, now: _Annotated, corrections: dict[str, _Annotated]
) -> str | None:
    """Add what a known photo becomes to the corrections and say what changed, if anything did."""
    size = (now.image["width"], now.image["height"])
    stays = now.mask and not now.rows  # a mask alone states nothing about boxes
    rows = before.rows if stays else corrected(before.rows, now.rows, size)
    rows = [{**row, "image_id": before.image["id"]} for row in rows]
    image, note = before.image, change(before.rows, rows)
    if before.label != now.label:
        note = f"label and boxes replaced: {now.label} instead of {before.label}"
        image = {key: value for key, value in image.items() if key != "kind"}
        image |= {key: now.image[key] for key in ("label", "kind") if key in now.image}
    if note:
        corrections[name] = _Annotated(image, rows, before.mask)
    return note


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


def _twin(photo: Path, named: str, photos: Path, sizes: dict[int, list[str]]) -> str | None:
    """The name of the data set's photo with the same bytes, the same name first, or None."""
    alike = sorted(sizes.get(photo.stat().st_size, []), key=lambda name: name != named)
    digest = sha256_file(photo) if alike else ""
    return next((name for name in alike if sha256_file(photos / name) == digest), None)


def _grow(dataset: Dataset, new: Dataset, found: _Found) -> tuple[Dataset, list[tuple[Path, Path]]]:
    """The data set with fresh photos under new numbers, more masks and corrected annotations.

    Also returns the new files as (file, place).
    """
    fresh, corrections = found.fresh, found.corrections
    numbers = {image["id"]: number for number, image in enumerate(fresh, _next(dataset.images))}
    images = [
        *(
            corrections[row["file_name"]].image if row["file_name"] in corrections else row
            for row in dataset.images
        ),
        *({**image, "id": numbers[image["id"]]} for image in fresh),
    ]
    ids = {photo.image["id"] for photo in corrections.values()}
    free = count(_next(dataset.annotations))
    boxes = [
        row if "id" in row else {"id": next(free), **row}
        for photo in corrections.values()
        for row in photo.rows
    ]
    boxes += [
        {**row, "id": next(free), "image_id": numbers[row["image_id"]]}
        for row in new.annotations
        if row["image_id"] in numbers
    ]
    touched = [image for image in images if image["id"] in ids or image["id"] in numbers.values()]
    kind = _kind(dataset, touched, boxes)
    kept = [row for row in dataset.annotations if row["image_id"] not in ids]
    new_masks = dict(found.masks)  # by the photo's name
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
        for row in images
    ]
    grown = replace(dataset, boxes=kind, images=images, annotations=[*kept, *boxes])
    return grown, files


def _kind(dataset: Dataset, images: list[dict[str, Any]], boxes: list[dict[str, Any]]) -> str:
    """Where the boxes of the data set come from, with these images and boxes new or corrected.

    Raises:
        InputError: boxes that the data set lists but ignores would be used from now on.
    """
    if dataset.boxes == "given":
        return "mixed" if unboxed(images, boxes, dataset.split) else "given"
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
