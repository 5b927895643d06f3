"""A data set on disk: `boxes.json` (COCO detection JSON, the index) and `dataset.yaml`.

`load` refuses what makes the index unusable (unknown or duplicate ids, paths that leave the
folder, missing files, nothing in it). Whether a box is sound is for the validation stage to decide.
"""

from __future__ import annotations

import math
import os
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components.core.errors import InputError
from components.core.files import inside, printable, read_json, write_json, write_text
from components.data.manifest import AUTHENTIC, MANIPULATED, SPLITS

INDEX, CARD, PHOTOS, MASKS = "boxes.json", "dataset.yaml", "photos", "masks"
_IMPORT = "make the data set with `iml dataset import`"
# The fields of dataset.yaml with their choices; without any, a field is free text.
_CARD: dict[str, tuple[str, ...]] = {
    "name": (),
    "licence": (),
    "source": (),
    "boxes": ("given", "simulate", "mixed"),
    "split": ("given", "grouped"),
}


@dataclass(frozen=True)
class Dataset:
    """A data set's card and index.

    Attributes:
        root: its folder, with `photos/` and `masks/`.
        name, licence, source: as in `dataset.yaml`.
        boxes: `given`; `simulate` (drawn from the masks when the manifest is made); `mixed` (drawn
            for manipulated photos that have a mask and no annotation).
        split: `given` (images carry `split`), or `grouped` (drawn by source group).
        images: COCO images with the extra keys `label`, and optionally `mask`, `split`, `group`,
            `origins`, `source`, `kind`; `file_name` is below `photos/`, `mask` below the folder.
            Photos that share a `group`, or one of their `origins` (ids of the photos they were
            made from), stay in one split.
        annotations: COCO annotations, `bbox` [x, y, width, height] in pixels, optionally with
            `annotator` and `seconds`, and with `segmentation` where more than a box was drawn:
            polygons [[x, y, x, y, ...], ...] or compressed RLE {"size": [height, width],
            "counts": text}.
        description: free text.
    """

    root: Path
    name: str
    licence: str
    source: str
    boxes: str
    split: str
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    description: str = ""

    def drawn(self) -> set[Any]:
        """Ids of the photos whose boxes are drawn from their masks."""
        annotated = {row["image_id"] for row in self.annotations if self.boxes == "mixed"}
        return {
            image["id"]
            for image in self.images
            if self.boxes != "given"
            and image["label"] == MANIPULATED
            and image["id"] not in annotated
        }


def load(root: str | Path) -> Dataset:
    """Read a data set's folder; raises InputError naming the first thing that makes it unusable."""
    root = Path(root)
    if not root.is_dir():
        raise InputError("no such data set", where=str(root), hint=_IMPORT)
    card = _read_card(root / CARD)
    index, where = read_json(root / INDEX), str(root / INDEX)
    if not isinstance(index, dict):
        raise InputError("not a COCO detection file", where=where)
    images, annotations = rows(index, "images", where), rows(index, "annotations", where)
    if not images:
        raise InputError("no photos in it", where=where, hint="import some")
    _check_rows(images, annotations, where)
    _check_files(root, images)
    return Dataset(root=root, images=images, annotations=annotations, **card)


def check(dataset: Dataset) -> None:
    """Refuse an index that could not be written, or not be loaded afterwards.

    Raises:
        InputError: as `load`; or a number is not finite, which `load` leaves to validation but
            JSON cannot express.
    """
    where = str(dataset.root / INDEX)
    _check_rows(dataset.images, dataset.annotations, where)
    for row in (*dataset.images, *dataset.annotations):
        if not _finite(row.values()):
            what = row.get("file_name") or f"annotation {row['id']}"
            raise InputError(
                f"{what}: a number in it is not finite", where=where, hint="correct or remove it"
            )


def _finite(values: Iterable[Any]) -> bool:
    """Whether all numbers in a list, and in lists in it, are finite."""
    return all(
        math.isfinite(value) if isinstance(value, float) else _finite(value)
        for value in values
        if isinstance(value, float | list | tuple)
    )


def save(dataset: Dataset) -> None:
    """Write `boxes.json` and `dataset.yaml`, each atomically; raises InputError as `check`."""
    check(dataset)
    index = {
        "info": {"description": dataset.description or dataset.name},
        "licenses": [{"id": 1, "name": dataset.licence, "url": ""}],
        "images": dataset.images,
        "annotations": dataset.annotations,
        "categories": [{"id": 1, "name": MANIPULATED}],
    }
    card = {key: getattr(dataset, key) for key in _CARD}
    if dataset.description:
        card["description"] = dataset.description
    write_json(dataset.root / INDEX, index)
    write_text(dataset.root / CARD, yaml.safe_dump(card, sort_keys=False, allow_unicode=True))


def _read_card(path: Path) -> dict[str, str]:
    """The fields of dataset.yaml."""
    where = str(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no such file", where=where, hint=_IMPORT) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"not valid YAML ({error})", where=where) from None
    if not isinstance(values, dict):
        raise InputError("not a mapping of keys to values", where=where)
    for key, choices in _CARD.items():
        if not isinstance(values.get(key), str) or not values[key].strip():
            raise InputError(f"{key}: missing or not text", where=where)
        if choices and values[key] not in choices:
            raise InputError(f"{key}: {values[key]!r} is not {' or '.join(choices)}", where=where)
    description = str(values.get("description") or "")
    return {**{key: values[key] for key in _CARD}, "description": description}


def rows(index: dict[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    """A COCO list of objects, each with an id of its own; raises InputError for anything else."""
    found = index.get(key)
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise InputError(f"{key}: not a list of objects", where=where)
    unique(f"{key}: id", (row.get("id") for row in found), where)
    return found


def unique(what: str, values: Iterable[Any], where: str) -> None:
    """Raise InputError at the first value that is missing, unhashable or seen before."""
    seen: set[Any] = set()
    for value in values:
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise InputError(f"{what} is {value!r}, not a number or text", where=where)
        if value in seen:
            raise InputError(f"{what} {value!r} is there twice", where=where)
        seen.add(value)


def _check_rows(
    images: list[dict[str, Any]], annotations: list[dict[str, Any]], where: str
) -> None:
    """Each image has a name and a label; each annotation has four numbers and a known image."""
    unique("images: file_name", (image.get("file_name") for image in images), where)
    for image in images:
        if problem := _image_problem(image):
            raise InputError(problem, where=where)
    known = {image["id"] for image in images}
    for row in annotations:
        if not isinstance(row.get("image_id"), str | int) or row["image_id"] not in known:
            raise InputError(
                f"annotation {row['id']} belongs to unknown image id {row.get('image_id')!r}",
                where=where,
            )
        check_bbox(row, where)
        if not is_text(row.get("annotator")):
            raise InputError(f"annotation {row['id']}: annotator is not text", where=where)
        if row.get("seconds") is not None and number(row["seconds"]) is None:
            raise InputError(f"annotation {row['id']}: seconds is not a number", where=where)


def _image_problem(image: dict[str, Any]) -> str | None:
    name = image["file_name"]
    plain = isinstance(name, str) and name and posixpath.normpath(name) == name
    if not plain or printable(name) != name:
        return f"file_name {name!r} is not a plain relative path"
    problem = fault({"label": None, **image})
    if not problem and not is_text(image.get("group")):
        problem = "group is not text"
    return problem and f"{name}: {problem}"


def fault(image: dict[str, Any]) -> str | None:
    """What is wrong with the keys that `Dataset` adds to a COCO image (all optional), or None."""
    label, split = image.get("label", AUTHENTIC), image.get("split")
    if label not in (AUTHENTIC, MANIPULATED):
        return f"label {label!r} is not {AUTHENTIC} or {MANIPULATED}"
    if split not in (None, *SPLITS):
        return f"split {split!r} is not one of {', '.join(SPLITS)}"
    for key in ("mask", "source", "kind"):
        if not is_text(image.get(key)):
            return f"{key} is not text"
    origins = image.get("origins")
    if origins is None or (isinstance(origins, list) and all(o and is_text(o) for o in origins)):
        return None
    return "origins is not a list of texts"


def is_text(value: Any) -> bool:
    """Whether a value is None or text that can be encoded in UTF-8."""
    return value is None or (isinstance(value, str) and printable(value) == value)


def number(value: Any) -> float | None:
    """A number as float, or None for anything else (true, text, too large for one)."""
    try:
        return float(value) if type(value) in (int, float) else None
    except OverflowError:
        return None


def check_bbox(row: dict[str, Any], where: str) -> tuple[float, float, float, float]:
    """The four numbers of a COCO annotation (NaN is a number); raises InputError."""
    box = row.get("bbox")
    sides = [number(value) for value in box] if isinstance(box, list | tuple) else []
    numbers = [side for side in sides if side is not None]
    if not len(sides) == len(numbers) == 4:
        raise InputError(f"annotation {row.get('id')}: bbox {box!r} is not 4 numbers", where=where)
    x, y, width, height = numbers
    return x, y, width, height


def _check_files(root: Path, images: list[dict[str, Any]]) -> None:
    """Every photo and mask exists below the folder."""
    check = Inside(root)
    paths = [f"{PHOTOS}/{image['file_name']}" for image in images]
    paths += [image["mask"] for image in images if image.get("mask")]
    missing = [path for path in paths if not (check.plain(path) or os.path.isfile(check(path)))]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(
            f"{missing[0]}{more}: no such file",
            where=str(root),
            hint="restore them (`dvc checkout`, `dvc pull`) or import the data set again",
        )


class Inside:
    """`files.inside` for many paths of one root: each folder is resolved and listed once.

    A plain file in a folder below the root cannot leave it; only links need a closer look.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._folders: dict[str, frozenset[str]] = {}

    def plain(self, relative: str) -> bool:
        """Whether this is a regular file, not a link, in a folder below the root."""
        folder, _, name = relative.rpartition("/")
        if folder not in self._folders:
            inside(self.root, relative)  # its complaint names the whole path
            try:
                with os.scandir(inside(self.root, folder or ".")) as entries:
                    files = [one.name for one in entries if one.is_file(follow_symlinks=False)]
            except OSError:
                files = []
            self._folders[folder] = frozenset(files)
        return name in self._folders[folder]

    def __call__(self, relative: str) -> Path:
        """The joined path; raises InputError when it leaves the root."""
        return self.root / relative if self.plain(relative) else inside(self.root, relative)
