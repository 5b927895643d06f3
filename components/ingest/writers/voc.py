"""Pascal VOC: `JPEGImages/`, `Annotations/` with one XML per photo, `ImageSets/Main/SPLIT.txt`.

`labelmap.txt` declares the classes to CVAT and datumaro, which otherwise know VOC's twenty only.
Corners are whole pixels, counted from 1 and inclusive, since that is what LabelImg and most readers
accept. A region is one `polygon` beside the box, as Roboflow and supervision write it; attributes
are CVAT's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from components.core.files import write_text
from components.ingest.formats.record import Box, Record
from components.ingest.writers.photos import (
    categories,
    category,
    place,
    refuse_equal_stems,
    stem,
    subsets,
    write_plain,
)
from components.ingest.writers.regions import joined, rings


def write(records: Sequence[Record], out: Path, licence: str) -> Counter[str]:
    """Write photos, annotations and splits below `out`; returns how much they could not hold."""
    refuse_equal_stems(records, out)
    place(records, lambda record: out / "JPEGImages")
    lost: Counter[str] = Counter()
    for record in records:
        file = out / "Annotations" / f"{stem(record)}.xml"
        write_plain(file, xml(_annotation(record, lost)))
    for subset, some in subsets(records).items():
        stems = "".join(f"{stem(record)}\n" for record in some)
        write_text(out / "ImageSets" / "Main" / f"{subset}.txt", stems)
    classes = "".join(f"{name}:::\n" for name in categories(records))
    write_text(out / "labelmap.txt", "# label:color_rgb:parts:actions\n" + classes)
    return lost


def xml(root: Element, declared: bool = True) -> bytes:
    """An indented document in UTF-8, which it declares or not."""
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=declared)


def texts(parent: Element, **values: object) -> None:
    """Add an element with text for each value."""
    for name, value in values.items():
        SubElement(parent, name).text = str(value)


def _annotation(record: Record, lost: Counter[str]) -> Element:
    """One photo's document."""
    width, height = record.size or (0, 0)
    root = Element("annotation")
    texts(root, folder="JPEGImages", filename=record.name)
    texts(SubElement(root, "size"), width=width, height=height, depth=3)
    texts(root, segmented=int(any(box.region for box in record.boxes)))
    for box in record.boxes:
        _object(root, record, box, lost)
    return root


def _object(root: Element, record: Record, box: Box, lost: Counter[str]) -> None:
    """One box, at least a pixel wide and high."""
    made = SubElement(root, "object")
    texts(made, name=category(record), pose="Unspecified", truncated=0, difficult=0)
    x0, y0 = round(box.x), round(box.y)
    x1, y1 = max(x0 + 1, round(box.x + box.width)), max(y0 + 1, round(box.y + box.height))
    lost["parts of a pixel, of boxes"] += (x0, y0, x1 - x0, y1 - y0) != (
        box.x,
        box.y,
        box.width,
        box.height,
    )
    texts(SubElement(made, "bndbox"), xmin=x0 + 1, ymin=y0 + 1, xmax=x1, ymax=y1)
    attributes = SubElement(made, "attributes")
    for name in ("annotator", "seconds"):
        if (value := getattr(box, name)) is not None:
            texts(SubElement(attributes, "attribute"), name=name, value=value)
    if box.region and record.size:
        points = SubElement(made, "polygon")
        for number, value in enumerate(joined(rings(box.region, record.size))):
            texts(points, **{f"{'xy'[number % 2]}{number // 2 + 1}": round(value)})
