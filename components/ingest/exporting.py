"""Export: a data set's photos, boxes and regions in the format of an annotation tool.

The folder is built beside its place and renamed into it; nothing is overwritten. What the format
cannot hold is counted, so that nothing is dropped silently.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.errors import InputError
from components.core.files import check_folder
from components.core.images import image_size, read_bytes
from components.core.params import Prepare
from components.data.build import build
from components.data.dataset import PHOTOS, Dataset, check, load
from components.data.manifest import MANIPULATED
from components.data.scan import run
from components.ingest.formats.coco import outline
from components.ingest.formats.record import Box, Record, RowError
from components.ingest.formats.regions import boxed
from components.ingest.importing import staging
from components.ingest.pseudo_masks import add
from components.ingest.writers import registry
from components.ingest.writers.regions import decode
from components.pseudo_label.label import boxes_by_photo


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        records: photos with their boxes.
        masked: photos whose boxes got regions from pseudo-masks; None if they were not asked for.
        drawn: boxes drawn from true masks.
        not_kept: what the format cannot hold, and how often the data set has it.
    """

    records: list[Record]
    masked: int | None
    drawn: int
    not_kept: dict[str, int]


def export_dataset(
    root: Path,
    out: Path,
    format: str,
    settings: Prepare,
    *,
    masks: bool = False,
    threshold: float = 0.5,
    order: Sequence[str] = (),
) -> Exported:
    """Write a data set in an annotation tool's format.

    Args:
        root: the data set's folder.
        out: folder to make.
        format: a name in `writers.registry`.
        settings: how boxes are drawn for photos that have a true mask and no box.
        masks: add the accepted pseudo-masks of this workspace's last run as regions of the boxes
            that have none.
        threshold: probability from which a pixel of a pseudo-mask belongs to the region.
        order: names of the photos to write first; the others follow by name.

    Raises:
        InputError: no such format or data set, `out` exists, a name in `order` that is no photo's,
            or the pseudo-masks are of other photos or boxes.
    """
    writer = registry.get(format)
    _check_place(out, root)
    dataset = load(root)
    check(dataset)
    records, drawn = _records(dataset, settings)
    lacking = _stated_regions(dataset) - _regions(records)
    records, masked = add(records, threshold, root) if masks else (records, None)
    records = _ordered(records, order, root)
    with staging(out) as scratch:
        _check_place(out, root)  # it may have been made meanwhile
        work = scratch / out.name
        work.mkdir()
        lost = writer.write(records, work, dataset.licence)
        work.rename(out)
    facts = {what: count for what, count in _facts(records).items() if what not in writer.keeps}
    facts |= {"regions that cover no pixel": lacking, **lost}
    return Exported(records, masked, drawn, {key: count for key, count in facts.items() if count})


def _check_place(out: Path, root: Path) -> None:
    if os.path.lexists(out):
        raise InputError("exists already", where=str(out), hint="choose another place")
    if out.resolve().is_relative_to(root.resolve()):
        raise InputError("lies in the data set", where=str(out), hint="choose another place")
    check_folder(out)


def _records(dataset: Dataset, settings: Prepare) -> tuple[list[Record], int]:
    """The data set as a reader would return it, and how many boxes were drawn from masks."""
    rows: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in dataset.images}
    for row in dataset.annotations if dataset.boxes != "simulate" else []:
        rows[row["image_id"]].append(row)
    drawn = dataset.drawn()
    found = boxes_by_photo(build(dataset.root, settings)[0].boxes) if drawn else {}
    for image in dataset.images:
        if image["id"] in drawn and image["file_name"] in found:
            corners = found[image["file_name"]].tolist()
            rows[image["id"]] = [{"bbox": [x0, y0, x1 - x0, y1 - y0]} for x0, y0, x1, y1 in corners]
    added = sum(len(rows[number]) for number in drawn)
    images = sorted(dataset.images, key=lambda image: image["file_name"])
    return run(lambda image: _record(dataset, image, rows[image["id"]]), images), added


def _ordered(records: list[Record], order: Sequence[str], root: Path) -> list[Record]:
    """The records in an order; those that it does not name come last, as they are."""
    left = {record.name: record for record in records}
    try:
        first = [left.pop(name) for name in dict.fromkeys(order)]
    except KeyError as error:
        what = f"the order is that of another data set: {error.args[0]} is not in this one"
        raise InputError(what, where=str(root)) from None
    return [*first, *left.values()]


def _record(dataset: Dataset, image: dict[str, Any], rows: list[dict[str, Any]]) -> Record:
    """A photo with the annotations of it."""
    photo, group = dataset.root / PHOTOS / image["file_name"], image.get("group")
    origins = [*(image.get("origins") or ()), *([group] if group else ())]
    size = image_size(read_bytes(photo), str(photo))
    try:
        boxes = tuple(_box(row, size) for row in rows)
    except RowError as error:
        raise InputError(f"{image['file_name']}: {error.what}", where=str(dataset.root)) from None
    return Record(
        photo=photo,
        name=image["file_name"],
        label=image["label"],
        mask=dataset.root / image["mask"] if image.get("mask") else None,
        boxes=boxes,
        split=image.get("split") if dataset.split == "given" else None,
        origins=tuple(dict.fromkeys(origins)),
        kind=image.get("kind"),
        source=image.get("source"),
        size=size,
    )


def _box(row: dict[str, Any], size: tuple[int, int]) -> Box:
    x, y, width, height = map(float, row["bbox"])
    region = outline(row.get("segmentation"))
    drawn = boxed(region, size).region if region else None
    if drawn and not decode(drawn, size).any():
        drawn = None
    return Box(x, y, width, height, row.get("annotator"), row.get("seconds"), drawn)


def _stated_regions(dataset: Dataset) -> int:
    return sum(bool(row.get("segmentation")) for row in dataset.annotations)


def _regions(records: Sequence[Record]) -> int:
    return sum(box.region is not None for record in records for box in record.boxes)


def _facts(records: Sequence[Record]) -> dict[str, int]:
    """What a data set has beside photos, boxes, regions and splits, counted."""
    boxes = [box for record in records for box in record.boxes]
    bare = [record for record in records if not record.boxes]
    return {
        "licence": 1,
        "true masks": sum(record.mask is not None for record in records),
        "annotators of boxes": sum(box.annotator is not None for box in boxes),
        "seconds spent on boxes": sum(box.seconds is not None for box in boxes),
        "kinds of photos without a box": sum(record.kind is not None for record in bare),
        "manipulated photos without a box": sum(record.label == MANIPULATED for record in bare),
        "sources of photos": sum(record.source is not None for record in records),
        "origins of photos": sum(bool(record.origins) for record in records),
    }
