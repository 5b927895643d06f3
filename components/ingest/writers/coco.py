"""COCO instances: `images/`, and in `annotations/` one `instances_SPLIT.json` per split.

That is the layout of COCO itself, which tools know. A region is written as it is kept: as
polygons, or as compressed RLE, which holds every pixel. What COCO has no place for is written as
`attributes` of an annotation and as further keys of an image, as the reader here expects them;
tools drop what they do not know.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.core.files import write_json
from components.ingest.formats.record import Box, Record, Region
from components.ingest.writers.photos import categories, category, place, subsets
from components.ingest.writers.regions import decode


def write(records: Sequence[Record], out: Path, licence: str) -> Counter[str]:
    """Write photos and annotations below `out`; returns what was lost, which is nothing."""
    place(records, lambda record: out / "images")
    names = categories(records)
    numbers = {id(record): number for number, record in enumerate(records, start=1)}
    last = 0
    for subset, some in subsets(records).items():
        boxes = [(record, box) for record in some for box in record.boxes]
        index = {
            "info": {"description": out.name},
            "licenses": [{"id": 1, "name": licence, "url": ""}],
            "images": [_image(record, numbers[id(record)]) for record in some],
            "annotations": [
                {
                    "id": last + number,
                    "image_id": numbers[id(record)],
                    "category_id": 1 + names.index(category(record)),
                    **_annotation(box, record.size),
                }
                for number, (record, box) in enumerate(boxes, start=1)
            ],
            "categories": [
                {"id": number, "name": name, "supercategory": ""}
                for number, name in enumerate(names, start=1)
            ],
        }
        last += len(boxes)
        write_json(out / "annotations" / f"instances_{subset}.json", index)
    return Counter()


def _image(record: Record, number: int) -> dict[str, Any]:
    """An image, with the keys that `Dataset` adds to COCO."""
    width, height = record.size or (0, 0)
    known = {
        "label": record.label,
        "split": record.split,
        "kind": record.kind,
        "source": record.source,
        "origins": list(record.origins) or None,
    }
    return {
        "id": number,
        "file_name": record.name,
        "width": width,
        "height": height,
        "license": 1,
        **{key: value for key, value in known.items() if value is not None},
    }


def _annotation(box: Box, size: tuple[int, int] | None) -> dict[str, Any]:
    """A box, its region as `segmentation`."""
    stated = {"annotator": box.annotator, "seconds": box.seconds}
    return {
        "bbox": [box.x, box.y, box.width, box.height],
        "segmentation": box.region or [],
        "area": _area(box, box.region, size),
        "iscrowd": 0,
        "attributes": {key: value for key, value in stated.items() if value is not None},
    }


def _area(box: Box, region: Region | None, size: tuple[int, int] | None) -> float:
    """Of the region where there is one, in pixels."""
    return float(decode(region, size).sum()) if region and size else box.width * box.height
