"""COCO detection and instance JSON, as CVAT, Label Studio, Roboflow and this project write it.

A photo with boxes is manipulated and one without is authentic, unless the image has a `label`. The
other keys that this project adds are read too: `components.data.dataset.Dataset`. A category other
than `manipulated` names the kind of manipulation. If there are several files (COCO, CVAT: one per
subset, Roboflow: in one folder per split) their names or folders give the split.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.core.errors import InputError
from components.core.files import inside
from components.data.dataset import fault, number, rows
from components.data.manifest import AUTHENTIC, MANIPULATED
from components.ingest.formats import regions
from components.ingest.formats.record import Box, Reading, Record, Region, RowError, split_named
from components.ingest.formats.regions import shown
from components.ingest.formats.shapes import (
    Measure,
    Photo,
    Shape,
    credited,
    reading,
    record,
    stated_size,
    text,
)
from components.ingest.formats.source import Source

_DRAWN = ("bbox", "segmentation")
# Keys of COCO's other tasks, which share images and annotations with detection.
_OTHER_TASKS = {"caption": "captions", "segments_info": "panoptic", "keypoints": "keypoints"}
# COCO's names for files about the photos of the `instances_` file beside them.
_BESIDE = ("captions_", "image_info_", "labels_", "panoptic_", "person_keypoints_", "stuff_")


def matches(source: Source) -> bool:
    """Whether this is a COCO file or a folder with one."""
    return any(_is_coco(document) for _, document in source.documents())


def read(source: Source) -> Reading:
    """All images of the file or files.

    Raises:
        InputError: JSON that cannot be read, duplicate ids, an image without a name.
    """
    files = []
    for file in source.files(".json"):
        document = source.json(file)
        if not _is_coco(document):
            source.leave(file, "not a COCO detection file")
        elif task := _other_task(document):
            source.leave(file, f"COCO {task}, not boxes")
        elif instances := _instances(file):
            source.leave(file, f"its photos are those of {instances.name}")
        else:
            files.append(file)
    if not files:
        why = f": {source.left[-1].reason}" if source.left else ""
        raise InputError(f"no COCO detection file{why}", where=str(source.path))
    records: list[Record] = []
    for file in files:
        source.use(file)
        records += _read_file(source, file, several=len(files) > 1)
    return reading(records)


def _instances(file: Path) -> Path | None:
    """The file of instances that another file of COCO's lies beside."""
    prefix = next((one for one in _BESIDE if file.name.startswith(one)), "")
    beside = file.with_name(f"instances_{file.name.removeprefix(prefix)}")
    return beside if prefix and os.path.isfile(beside) else None


def _is_coco(document: Any) -> bool:
    return isinstance(document, dict) and "images" in document and "annotations" in document


def _other_task(document: dict[str, Any]) -> str | None:
    """The task of a file whose annotations are not ours, told by all of them."""
    annotations = document["annotations"]
    if not isinstance(annotations, list) or not annotations:
        return None
    ours = any(
        isinstance(row, dict) and row.get("name") == MANIPULATED
        for row in document.get("categories") or ()
    )
    for key, task in _OTHER_TASKS.items():
        if all(isinstance(row, dict) and row.get(key) for row in annotations):
            return None if ours and task == "keypoints" else task
    return None


def _read_file(source: Source, file: Path, several: bool) -> list[Record]:
    """The records of one file."""
    index, where = source.json(file), str(file)
    images, annotations = rows(index, "images", where), rows(index, "annotations", where)
    categories = rows({"categories": [], **index}, "categories", where)
    names = {row["id"]: text(row.get("name")) for row in categories}
    by_image: dict[Any, list[dict[str, Any]]] = {row["id"]: [] for row in images}
    for row in annotations:
        image = row.get("image_id")
        if not isinstance(image, str | int) or image not in by_image:
            raise InputError(
                f"annotation {row['id']} belongs to unknown image id {shown(image)}",
                where=where,
                hint="export the annotations again",
            )
        by_image[image].append(row)
    folder = source.relative(file).split("/")[-2:-1]
    subset = file.stem.rpartition("_")[2]
    split = (split_named(file.stem) or split_named(file.parent.name)) if several else None
    prefer = tuple(dict.fromkeys([subset, *folder, *([split] if split else [])]))
    return [
        _record(source, file, row, by_image[row["id"]], names, Photo((), file, prefer, split=split))
        for row in images
    ]


def _record(
    source: Source,
    file: Path,
    image: dict[str, Any],
    annotations: list[dict[str, Any]],
    names: dict[Any, str],
    photo: Photo,
) -> Record:
    """One image with its annotations."""
    name = image.get("file_name")
    if not isinstance(name, str) or not name.strip("./\\ "):
        raise InputError(f"image {image['id']}: file_name is {shown(name)}", where=str(file))
    if problem := fault(image):
        raise InputError(f"image {image['id']}: {problem}", where=str(file))
    mask, group = image.get("mask"), text(image.get("group"))
    origins = [*(image.get("origins") or ()), *([group] if group else ())]
    made = record(
        source,
        photo._replace(
            names=(name,),
            size=stated_size(image.get("width"), image.get("height")),
            split=image.get("split") or photo.split,
        ),
        lambda size: (_shape(row, names, size) for row in annotations),
        origins=tuple(dict.fromkeys(origins)),
        mask=_mask(source, file, mask) if mask else None,
    )
    label = image.get("label") or (MANIPULATED if annotations else AUTHENTIC)
    kind, origin = image.get("kind") or made.kind, image.get("source")
    return replace(made, label=label, kind=kind, source=origin, stated="label" in image)


def _mask(source: Source, file: Path, name: str) -> Path:
    """The file of a mask, a path relative to the JSON file; raises InputError if it is outside."""
    return inside(source.root, os.path.relpath(file.parent / name, source.root))


def _shape(row: dict[str, Any], names: dict[Any, str], size: Measure) -> Shape:
    """One annotation's box, with annotator and seconds where the tool records them."""
    category = row.get("category_id")
    if not isinstance(category, str | int) or category not in names:
        raise RowError(f"annotation {row['id']} has unknown category id {shown(category)}")
    if not any(row.get(key) for key in _DRAWN):
        other = next((task for key, task in _OTHER_TASKS.items() if row.get(key)), None)
        if other:
            return Shape(None, other)
    attributes = row.get("attributes")
    extra = {**attributes, **row} if isinstance(attributes, dict) else row
    try:
        box = _box(row, extra.get("rotation"), size)
    except RowError as error:
        raise RowError(f"annotation {row['id']}: {error.what}") from None
    return Shape(credited(box, extra), names[category])


def _box(row: dict[str, Any], rotation: Any, size: Measure) -> Box:
    """The annotated box; where it is turned, or there is none, the one round what was drawn."""
    sides = _sides(row.get("bbox"))
    try:
        region = outline(row.get("segmentation"))
        degrees = regions.numeric("rotation", rotation) if rotation else 0.0
        if sides and degrees % 360 and (region is None or _is_plain(region, sides)):
            return regions.turned_box(*sides, degrees, size())
        drawn = regions.boxed(region, size()) if region is not None else None
    except RowError as error:
        if sides is None or rotation:
            raise
        return Box(*sides, note=f"without its outline: {error.what}")
    if sides is not None and not (drawn and (sides[2] <= 0 or sides[3] <= 0)):
        return Box(*sides, region=drawn.region if drawn else None)
    if drawn is None:
        raise RowError(f"bbox {shown(row.get('bbox'))} is not 4 numbers, and it has no outline")
    return regions.noted(drawn, "the box of its outline, having none of its own")


def _sides(bbox: Any) -> tuple[float, float, float, float] | None:
    """The four numbers of a box (NaN is a number), or None for anything else."""
    sides = [number(value) for value in bbox] if isinstance(bbox, list) else []
    numbers = [side for side in sides if side is not None]
    if not len(sides) == len(numbers) == 4:
        return None
    x, y, width, height = numbers
    return x, y, width, height


def _is_plain(region: Region, sides: tuple[float, ...]) -> bool:
    """Whether an outline is only the box's own corners, before it was turned."""
    corners = regions.rectangle(*sides)
    return isinstance(region, list) and [sorted(one) for one in region] == [sorted(corners)]


def outline(segmentation: Any) -> Region | None:
    """What an annotation's `segmentation` draws, or None if nothing; raises RowError."""
    if not segmentation:
        return None
    if isinstance(segmentation, dict):
        size = segmentation.get("size")
        if not isinstance(size, list) or len(size) != 2:
            raise RowError(f"its RLE's size is {shown(size)}")
        return regions.rle(segmentation.get("counts"), (size[1], size[0]))
    if not isinstance(segmentation, list):
        raise RowError("its segmentation is neither polygons nor RLE")
    polygons = segmentation if isinstance(segmentation[0], list) else [segmentation]
    if not all(isinstance(polygon, list) for polygon in polygons):
        raise RowError("its segmentation is not polygons")
    return list(_polygons(polygons)) or None


def _polygons(polygons: list[list[Any]]) -> Iterator[list[float]]:
    """The polygons that have a corner; fewer than three are the traces of a click or of a line."""
    for polygon in polygons:
        if len(polygon) >= 6:
            yield regions.ring(polygon)
