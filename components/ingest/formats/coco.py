"""COCO detection JSON, as CVAT, Label Studio, Roboflow, FiftyOne and this project export it.

A photo with boxes is manipulated and one without is authentic, unless the image has a `label`. The
other keys that this project adds are read too: `components.data.dataset.Dataset`. A category other
than `manipulated` names the kind of manipulation. If there are several files (Roboflow: one per
split) their names or folders give the split. Photos are looked for beside the JSON, in `photos/`,
`images/` and `data/`, and in the same places one folder up.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from components.core.errors import InputError
from components.core.files import printable, read_json
from components.data.dataset import Inside, check_bbox, fault, number, rows
from components.data.manifest import AUTHENTIC, MANIPULATED
from components.ingest.formats.record import Box, Reading, Record, first_file, split_named
from components.ingest.formats.source import Source

_PATTERNS = (
    "*/_annotations.coco.json",
    "boxes.json",
    "labels.json",
    "result.json",
    "*.json",
    "annotations/*.json",
)
_FOLDERS = ("photos", "images", "data", "")


def matches(source: Source) -> bool:
    """Whether this is a COCO file or a folder with one."""
    return bool(_files(source.path))


def read(source: Source) -> Reading:
    """All images of the file or files.

    Raises:
        InputError: duplicate ids or names, an annotation of an unknown image or category, a box
            that is not four numbers, a path that leaves the source.
    """
    files = _files(source.path)
    if not files:
        refuse_broken(source)
        raise InputError("no COCO detection file", where=str(source.path))
    beside = next(found for found in _candidates(source.path) if files[0] in found)
    for file in beside:
        if file not in files:
            read_json(file)  # raises for one that cannot be read
    root = _root(source.path, files)
    records: list[Record] = []
    for file in files:
        split = (split_named(file.stem) or split_named(file.parent.name)) if files[1:] else None
        records += _read_file(root, file, split)
    unlabelled = sum(record.label == AUTHENTIC for record in records)
    notes = [f"{unlabelled} photos without a box count as authentic"] if unlabelled else []
    return Reading(records, notes)


def refuse_broken(source: Source) -> None:
    """Raise InputError for a JSON file that cannot be read where COCO is looked for."""
    for file in chain.from_iterable(_candidates(source.path)):
        if file.suffix == ".json":
            read_json(file)


def _candidates(source: Path) -> Iterator[list[Path]]:
    """The places where COCO files are looked for, in order, each with the files there."""
    if source.is_file():
        yield [source]
        return
    for pattern in _PATTERNS:
        yield sorted(source.glob(pattern))


def _files(source: Path) -> list[Path]:
    """The COCO files: the first place that holds any."""
    for candidates in _candidates(source):
        if found := [file for file in candidates if _is_coco(file)]:
            return found
    return []


def _is_coco(file: Path) -> bool:
    try:
        index = read_json(file)
    except InputError:
        return False
    return isinstance(index, dict) and "images" in index and "annotations" in index


def _root(source: Path, files: list[Path]) -> Path:
    """The folder that no path may leave."""
    if source.is_dir():
        return source
    folder = files[0].parent
    return folder.parent if folder.name == "annotations" else folder


def _read_file(root: Path, file: Path, split: str | None) -> list[Record]:
    """The records of one file."""
    index, where = read_json(file), str(file)
    images, annotations = rows(index, "images", where), rows(index, "annotations", where)
    categories = rows(index, "categories", where)
    names = {row["id"]: printable(str(row.get("name", ""))) for row in categories}
    by_image: dict[Any, list[dict[str, Any]]] = {row["id"]: [] for row in images}
    for row in annotations:
        image, category = row.get("image_id"), row.get("category_id")
        if not isinstance(image, str | int) or image not in by_image:
            raise InputError(
                f"annotation {row['id']} belongs to unknown image id {image!r}",
                where=where,
                hint="export the annotations again",
            )
        if not isinstance(category, str | int) or category not in names:
            what = f"annotation {row['id']} has unknown category id {category!r}"
            raise InputError(what, where=where)
        by_image[image].append(row)
    check = Inside(root)
    return [_record(check, file, row, by_image[row["id"]], names, split) for row in images]


def _record(
    check: Inside,
    file: Path,
    image: dict[str, Any],
    annotations: list[dict[str, Any]],
    names: dict[Any, str],
    split: str | None,
) -> Record:
    """One image with its annotations."""
    name = image.get("file_name")
    if not isinstance(name, str) or not name.strip("./"):
        raise InputError(f"image {image['id']}: file_name is {name!r}", where=str(file))
    name = posixpath.normpath(name.replace("\\", "/"))
    if name.startswith(("/", "../")):
        check(name)
    photo = _photo(check, file, name)
    if problem := fault(image):
        raise InputError(f"image {image['id']}: {problem}", where=str(file))
    mask, group = image.get("mask"), image.get("group")
    kinds = {names[row["category_id"]] for row in annotations} - {MANIPULATED, ""}
    origins = [*(image.get("origins") or ()), *([printable(str(group))] if group else ())]
    return Record(
        photo=photo,
        name=_target(check.root, photo),
        label=image.get("label", MANIPULATED if annotations else AUTHENTIC),
        mask=check(os.path.relpath(file.parent / mask, check.root)) if mask else None,
        boxes=tuple(_box(row, file) for row in annotations),
        split=image.get("split") or split,
        origins=tuple(dict.fromkeys(origins)),
        kind=image.get("kind") or "+".join(sorted(kinds)) or None,
        source=image.get("source"),
        size=_size(image),
        stated="label" in image,
    )


def _photo(check: Inside, file: Path, name: str) -> Path:
    """The photo's file, looked for where exporters put it; the likeliest place if it is nowhere."""
    folders = [file.parent / folder for folder in _FOLDERS]
    if file.parent != check.root:
        folders += [check.root / folder for folder in _FOLDERS]
    places = [check((folder / name).relative_to(check.root).as_posix()) for folder in folders]
    return first_file(places) or places[_FOLDERS.index("")]


def _target(root: Path, photo: Path) -> str:
    """The photo's path below the root, without a first folder that only means 'photos'."""
    parts = photo.relative_to(root).parts
    return "/".join(parts[1:] if len(parts) > 1 and parts[0] in _FOLDERS else parts)


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    """(width, height) as annotated, where both are stated."""
    width, height = image.get("width"), image.get("height")
    if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
        return width, height
    return None


def _box(row: dict[str, Any], file: Path) -> Box:
    """One annotation's box, with annotator and seconds where the tool records them."""
    x, y, width, height = check_bbox(row, str(file))
    attributes = row.get("attributes")
    extra = {**attributes, **row} if isinstance(attributes, dict) else row
    annotator = extra.get("annotator")
    return Box(
        x,
        y,
        width,
        height,
        annotator=printable(str(annotator)) if annotator is not None else None,
        seconds=number(extra.get("seconds")),
    )
