"""Label Studio: `tasks.json`, `config.xml` (the labelling interface) and `images/`.

Photos are named as Label Studio's local storage serves them whose document root is this folder. A
region takes its box's place: one polygon, or a brush, which holds every pixel. A photo's label is a
choice; its split, kind, source and origins are fields of its task, which Label Studio keeps. Who
drew and for how long is known of a task as a whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from components.core.files import write_bytes, write_json
from components.data.manifest import AUTHENTIC, MANIPULATED
from components.ingest.formats.record import Box, Record
from components.ingest.writers.photos import categories, category, place
from components.ingest.writers.regions import decode, runs
from components.ingest.writers.voc import xml

_SIZES = (3, 4, 8, 16)  # bits of a run's length, of which two bits choose
_TOOLS = {"box": "RectangleLabels", "polygon": "PolygonLabels", "brush": "BrushLabels"}


def write(records: Sequence[Record], out: Path, licence: str) -> Counter[str]:
    """Write photos, tasks and the interface below `out`; returns what the results cannot hold."""
    place(records, lambda record: out / "images")
    tasks = [_task(number, record) for number, record in enumerate(records, start=1)]
    write_json(out / "tasks.json", tasks)
    write_bytes(out / "config.xml", xml(_config(categories(records)), declared=False))
    lost: Counter[str] = Counter()
    for record in records:
        lost["boxes, where a region takes their place"] += sum(bool(b.region) for b in record.boxes)
        lost["annotators of boxes"] += _unequal([box.annotator for box in record.boxes])
        lost["seconds spent on boxes"] += _unequal([box.seconds for box in record.boxes])
    return lost


def _unequal(values: list[Any]) -> int:
    """How many of these are stated, if they are not all the same."""
    return sum(value is not None for value in values) if len(set(values)) > 1 else 0


def _config(classes: list[str]) -> Element:
    """The labelling interface that the results belong to."""
    view = Element("View")
    SubElement(view, "Image", name="image", value="$image", zoom="true")
    choices = SubElement(view, "Choices", name="label", toName="image", choice="single")
    for value in (AUTHENTIC, MANIPULATED):
        SubElement(choices, "Choice", value=value)
    for name, tag in _TOOLS.items():
        labels = SubElement(view, tag, name=name, toName="image")
        for value in classes:
            SubElement(labels, "Label", value=value)
    return view


def _task(number: int, record: Record) -> dict[str, Any]:
    """One photo, its label and boxes as one annotation."""
    fields = {
        "split": record.split,
        "kind": record.kind,
        "source": record.source,
        "origins": list(record.origins) or None,
    }
    stated = {key: value for key, value in fields.items() if value is not None}
    image = f"/data/local-files/?d={quote(f'images/{record.name}')}"
    width, height = record.size or (0, 0)
    common = {
        "to_name": "image",
        "origin": "manual",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
    }
    label = {"from_name": "label", "type": "choices", "value": {"choices": [record.label]}}
    results = [label, *(_result(record, box) for box in record.boxes)]
    results = [{"id": f"{number}-{i}", **result, **common} for i, result in enumerate(results)]
    return {
        "id": number,
        "data": {"image": image, **stated},
        "annotations": [{"id": number, "result": results, **_credit(record)}],
    }


def _credit(record: Record) -> dict[str, Any]:
    """Who drew all boxes of a photo, and for how long in all, if it is the same for each."""
    annotators, seconds = (
        {getattr(box, key) for box in record.boxes} for key in ("annotator", "seconds")
    )
    found: dict[str, Any] = {}
    if len(annotators) == 1 and None not in annotators:
        found["completed_by"] = {"email": annotators.pop()}
    if len(seconds) == 1 and None not in seconds:
        found["lead_time"] = sum(box.seconds or 0.0 for box in record.boxes)
    return found


def _result(record: Record, box: Box) -> dict[str, Any]:
    """A box, or the region drawn for it; lengths are per cent of the photo's sides."""
    size, region = record.size or (1, 1), box.region
    scale = np.array(size) / 100
    value: dict[str, Any]
    if not region:
        tool = "box"
        x, y = (np.array([box.x, box.y]) / scale).tolist()
        width, height = (np.array([box.width, box.height]) / scale).tolist()
        value = {"x": x, "y": y, "width": width, "height": height, "rotation": 0}
    elif isinstance(region, list) and len(region) == 1:
        tool = "polygon"
        points = np.array(region[0]).reshape(-1, 2) / scale
        value = {"points": points.tolist(), "closed": True}
    else:
        tool = "brush"
        value = {"format": "rle", "rle": list(brush(decode(region, size)))}
    kind = _TOOLS[tool].lower()
    return {"from_name": tool, "type": kind, "value": value | {kind: [category(record)]}}


def brush(mask: np.ndarray) -> bytes:
    """A mask in Label Studio's run lengths: of RGBA values, each run with its length and value."""
    header = f"{mask.size * 4:032b}{8 - 1:05b}" + "".join(f"{size - 1:04b}" for size in _SIZES)
    bits = "".join([header, *_runs(mask)])
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8)


def _runs(mask: np.ndarray) -> Iterator[str]:
    """A bit 1, the length less one, and the value, for each run of equal values."""
    for place_in, pixels in enumerate(runs(mask)):
        value, left = 255 * (place_in % 2), pixels * 4
        while left:
            length = min(left, 1 << _SIZES[-1])
            code = next(i for i, size in enumerate(_SIZES) if length <= 1 << size)
            yield f"1{code:02b}{length - 1:0{_SIZES[code]}b}{value:08b}"
            left -= length
