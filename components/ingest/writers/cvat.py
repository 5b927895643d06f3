"""CVAT for images 1.1: `annotations.xml` and `images/`.

A photo's split is its `subset`, its label a `tag`, so authentic photos are told from those without
annotations. A region takes its box's place: one polygon, or a `mask`, which holds every pixel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

from components.core.files import write_bytes
from components.data.manifest import AUTHENTIC
from components.ingest.formats.record import Box, Record
from components.ingest.writers.photos import categories, category, place
from components.ingest.writers.regions import bounds, decode, runs
from components.ingest.writers.voc import texts, xml

_ATTRIBUTES = ("annotator", "seconds")


def write(records: Sequence[Record], out: Path, licence: str) -> Counter[str]:
    """Write photos and annotations below `out`; returns how much the shapes could not hold."""
    place(records, lambda record: out / "images")
    root = Element("annotations")
    texts(root, version="1.1")
    task = SubElement(SubElement(root, "meta"), "task")
    texts(task, name=out.name, size=len(records), mode="annotation")
    labels = SubElement(task, "labels")
    for name in (*categories(records), AUTHENTIC):
        _label(labels, name)
    lost: Counter[str] = Counter()
    for number, record in enumerate(records):
        width, height = record.size or (0, 0)
        given = {"id": number, "name": record.name, "width": width, "height": height}
        image = _element(root, "image", given | ({"subset": record.split} if record.split else {}))
        _element(image, "tag", {"label": record.label, "source": "manual"})
        for box in record.boxes:
            _shape(image, record, box)
            lost["boxes, where a region takes their place"] += box.region is not None
    write_bytes(out / "annotations.xml", xml(root))
    return lost


def _label(labels: Element, name: str) -> None:
    """A class and the attributes of its shapes, as CVAT declares them."""
    label = SubElement(labels, "label")
    texts(label, name=name)
    attributes = SubElement(label, "attributes")
    for attribute in _ATTRIBUTES:
        values = {"name": attribute, "mutable": False, "input_type": "text"}
        texts(SubElement(attributes, "attribute"), **values, default_value="", values="")


def _element(parent: Element, tag: str, values: dict[str, object]) -> Element:
    return SubElement(parent, tag, {key: str(value) for key, value in values.items()})


def _shape(image: Element, record: Record, box: Box) -> None:
    """A box, or the region drawn for it."""
    given = {"label": category(record), "source": "manual", "occluded": 0, "z_order": 0}
    if box.region and record.size:
        shape = _element(image, *_region(box, record.size, given))
    else:
        corners = {"xtl": box.x, "ytl": box.y, "xbr": box.x + box.width, "ybr": box.y + box.height}
        shape = _element(image, "box", given | corners)
    for name in _ATTRIBUTES:
        if (value := getattr(box, name)) is not None:
            _element(shape, "attribute", {"name": name}).text = str(value)


def _region(
    box: Box, size: tuple[int, int], given: dict[str, object]
) -> tuple[str, dict[str, object]]:
    """Tag and attributes of a region."""
    region = box.region or []
    if isinstance(region, list) and len(region) == 1:
        points = zip(region[0][::2], region[0][1::2], strict=True)
        return "polygon", given | {"points": ";".join(f"{x},{y}" for x, y in points)}
    mask = decode(region, size)
    x0, y0, x1, y1 = bounds(mask)
    values = {"rle": ", ".join(map(str, runs(mask[y0:y1, x0:x1]))), "left": x0, "top": y0}
    return "mask", given | values | {"width": x1 - x0, "height": y1 - y0}
