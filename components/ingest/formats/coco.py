"""COCO detection JSON, as CVAT, Label Studio, Roboflow, FiftyOne and this project export it.

A photo with boxes is manipulated and one without is authentic, unless the image's own `label` says
so. The keys with which this project says more are read too: `components.data.dataset.Dataset`.
A category other than `manipulated` names the kind of manipulation. Where there are several
files (Roboflow: one a split) their names or folders tell the split. Layouts that are searched for
the photos: beside the JSON, `photos/`, `images/`, `data/`, and the same one folder up.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from components.core.errors import InputError
from components.core.files import printable, read_json
from components.data.dataset import Inside, are_texts, check_bbox, is_text, number, unique
from components.data.manifest import AUTHENTIC, MANIPULATED, SPLITS
from components.ingest.formats.record import Box, Reading, Record, first_file, split_named

_PATTERNS = ("boxes.json", "labels.json", "result.json", "*.json", "annotations/*.json")
_PATTERNS_PER_SPLIT = ("*/_annotations.coco.json",)
_FOLDERS = ("photos", "images", "data", "")


def matches(source: Path) -> bool:
    """Whether this is a COCO file or a folder with one."""
    return bool(_files(source))


def read(source: Path) -> Reading:
    """All images of the file or files.

    Raises:
        InputError: duplicate ids or names, an annotation of an unknown image or category, a box
            that is not four numbers, a path that leaves the source.
    """
    files = _files(source)
    if not files:
        refuse_broken(source)
        raise InputError("no COCO detection file", where=str(source))
    for candidates in _candidates(source):
        if files[0] in candidates:
            _read_all(path for path in candidates if path not in files)
            break
    root = _root(source, files)
    records: list[Record] = []
    notes: list[str] = []
    for file in files:
        split = (split_named(file.stem) or split_named(file.parent.name)) if files[1:] else None
        records += _read_file(root, file, split)
    unique("photo", (record.name for record in records), str(source))
    unlabelled = sum(record.label == AUTHENTIC for record in records)
    if unlabelled:
        notes.append(f"{unlabelled} photos without a box count as authentic")
    return Reading(records, notes=notes)


def refuse_broken(source: Path) -> None:
    """Raise InputError for a JSON file that cannot be read where COCO is looked for."""
    for candidates in _candidates(source):
        _read_all(path for path in candidates if path.suffix == ".json")


def _read_all(files: Iterable[Path]) -> None:
    for file in files:
        read_json(file)


def _candidates(source: Path) -> Iterator[list[Path]]:
    """The places where COCO files are looked for, in order, each with the files there."""
    if source.is_file():
        yield [source]
        return
    for pattern in (*_PATTERNS_PER_SPLIT, *_PATTERNS):
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


def _rows(index: dict[str, Any], key: str, file: Path) -> list[dict[str, Any]]:
    rows = index.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{key}: not a list of objects", where=str(file))
    unique(f"{key}: id", (row.get("id") for row in rows), str(file))
    return rows


def _read_file(root: Path, file: Path, split: str | None) -> list[Record]:
    """The records of one file."""
    index = read_json(file)
    images = _rows(index, "images", file)
    annotations = _rows(index, "annotations", file)
    names = {
        row["id"]: printable(str(row.get("name", ""))) for row in _rows(index, "categories", file)
    }
    by_image: dict[Any, list[dict[str, Any]]] = {row["id"]: [] for row in images}
    for row in annotations:
        image_id = row.get("image_id")
        if not isinstance(image_id, str | int) or image_id not in by_image:
            raise InputError(
                f"annotation {row['id']} belongs to unknown image id {image_id!r}",
                where=str(file),
                hint="export the annotations again",
            )
        category = row.get("category_id")
        if not isinstance(category, str | int) or category not in names:
            raise InputError(
                f"annotation {row['id']} has unknown category id {category!r}",
                where=str(file),
            )
        by_image[image_id].append(row)
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
    kinds = {names[row["category_id"]] for row in annotations}
    kind, source, mask = (_text(image, key, file) for key in ("kind", "source", "mask"))
    return Record(
        photo=photo,
        name=_target(check.root, photo),
        label=_label(image, annotations, file),
        mask=check(os.path.relpath(file.parent / mask, check.root)) if mask else None,
        boxes=tuple(_box(row, file) for row in annotations),
        split=_split(image, file) or split,
        origins=_origins(image, file),
        kind=kind or "+".join(sorted(kinds - {MANIPULATED, ""})) or None,
        source=source,
        size=_size(image),
    )


def _photo(check: Inside, file: Path, name: str) -> Path:
    """The photo's file, looked for where exporters put it; the likeliest place if it is nowhere."""
    folders = [file.parent / folder for folder in _FOLDERS]
    if file.parent != check.root:
        folders += [check.root / folder for folder in _FOLDERS]
    places = [check((folder / name).relative_to(check.root).as_posix()) for folder in folders]
    return first_file(places) or places[_FOLDERS.index("")]


def _target(root: Path, photo: Path) -> str:
    """The photo's path below the root, less the folder that only says 'here are photos'."""
    parts = photo.relative_to(root).parts
    return "/".join(parts[1:] if len(parts) > 1 and parts[0] in _FOLDERS else parts)


def _label(image: dict[str, Any], annotations: list[dict[str, Any]], file: Path) -> str:
    """As stated, else by whether there is a box."""
    label = image.get("label", MANIPULATED if annotations else AUTHENTIC)
    if label not in (AUTHENTIC, MANIPULATED):
        raise InputError(
            f"image {image['id']}: label {label!r} is not {AUTHENTIC} or {MANIPULATED}",
            where=str(file),
        )
    return label


def _split(image: dict[str, Any], file: Path) -> str | None:
    """As stated in the image's `split`, or None."""
    split = image.get("split")
    if split not in (None, *SPLITS):
        raise InputError(
            f"image {image['id']}: split {split!r} is not {', '.join(SPLITS)}", where=str(file)
        )
    return split


def _text(image: dict[str, Any], key: str, file: Path) -> str | None:
    """A key's text, or None where it is absent."""
    if not is_text(image.get(key)):
        raise InputError(f"image {image['id']}: {key} is not text", where=str(file))
    return image.get(key)


def _origins(image: dict[str, Any], file: Path) -> tuple[str, ...]:
    """What the photo was made from, by the image's `origins` and `group`."""
    origins, group = image.get("origins"), image.get("group")
    if not are_texts(origins):
        raise InputError(f"image {image['id']}: origins is not a list of texts", where=str(file))
    return tuple(dict.fromkeys([*(origins or ()), *([printable(str(group))] if group else ())]))


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    """(width, height) as annotated, where both are stated."""
    width, height = image.get("width"), image.get("height")
    if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
        return width, height
    return None


def _box(row: dict[str, Any], file: Path) -> Box:
    """One annotation's box; who drew it and how long it took, where the tool says so."""
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
