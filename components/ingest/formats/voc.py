"""Pascal VOC or LabelMe XML: one file per photo, in `Annotations/` or beside the photos.

Corners are pixels counted from 1 and inclusive, as VOC defines them, so a box spans
`xmin - 1 .. xmax`; tools that count from 0 lose nothing, the corner is kept at the photo's edge.
Photos without an object are authentic. Splits come from `ImageSets/Main/{train,val,test}.txt`, else
from the folders (Roboflow: `train/`, `valid/`, `test/`). `<filename>` is often wrong: if it leads
to no photo, the one named like the XML file is meant.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element

from components.data.manifest import SPLITS
from components.ingest.formats import regions
from components.ingest.formats.record import Box, Reading, Record, split_named
from components.ingest.formats.shapes import (
    Measure,
    Photo,
    Shape,
    credited,
    of_files,
    reading,
    record,
    stated_size,
)
from components.ingest.formats.source import PHOTO_FOLDERS, Source


def matches(source: Source) -> bool:
    """Whether this is a VOC file or a folder with some."""
    return any(isinstance(root, Element) and _is_voc(root) for _, root in source.documents())


def _is_voc(root: Element) -> bool:
    return root.tag == "annotation" and root.find("imagesize") is None  # LabelMe's has one


def read(source: Source) -> Reading:
    """All annotated photos; an XML file that cannot be read is that photo's problem.

    Raises:
        InputError: a list of a split that is not UTF-8.
    """
    files = source.files(".xml")
    ends = {file: _ends(source.relative(file)) for file in files}
    listed = _splits(source, {end for some in ends.values() for end in some})
    in_folders = {file: split_named(file.parent.name) for file in files}
    told = len(set(in_folders.values()) - {None}) > 1

    def photo(file: Path) -> Photo:
        named = next((listed[end] for end in ends[file] if end in listed), None)
        split = named or (in_folders[file] if told else None)
        return Photo((file.stem,), file, (file.parent.name, *PHOTO_FOLDERS), split=split)

    photos = map(photo, files)
    return reading(of_files(source, photos, source.xml, _is_voc, _record, "Pascal VOC"))


def _ends(name: str) -> list[str]:
    """What a list may call a file: its path without the suffix, then ever less of its beginning."""
    parts = PurePosixPath(name).with_suffix("").parts
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _splits(source: Source, stems: set[str]) -> dict[str, str]:
    """Split by photo stem; a line is a stem, or one followed by 1 or -1 as in lists of a class."""
    found: dict[str, str] = {}
    for name in source.names:
        head, _, last = name.rpartition("/")
        split = last.removesuffix(".txt")
        if split not in SPLITS or not f"/{head}".endswith("/ImageSets/Main"):
            continue
        source.use(source.root / name)
        lines = source.text(source.root / name).splitlines()
        for line in filter(None, map(str.strip, lines)):
            found[line if line in stems else line.rsplit(maxsplit=1)[0]] = split
    return found


def _record(source: Source, photo: Photo, root: Element) -> Record:
    """One annotated photo."""
    filename = (root.findtext("filename") or "").strip()
    names = (filename, *photo.names) if filename else photo.names
    return record(
        source,
        photo._replace(
            names=names, size=stated_size(root.findtext("size/width"), root.findtext("size/height"))
        ),
        lambda size: _shapes(root, size),
    )


def _shapes(root: Element, size: Measure) -> Iterator[Shape]:
    for element in root.iterfind("object"):
        if element.findtext("deleted") == "1":  # LabelMe
            continue
        attributes = {
            one.findtext("name"): one.findtext("value")
            for one in element.iterfind("attributes/attribute")
        }
        box = _box(element, regions.numeric("rotation", attributes.get("rotation") or 0), size)
        yield Shape(
            credited(box, {str(k): v for k, v in attributes.items()}),
            element.findtext("name") or "",
        )


def _box(element: Element, degrees: float, size: Measure) -> Box:
    """One object's box, and its outline where the tool has drawn one."""
    if (turned := element.find("robndbox")) is not None:  # roLabelImg
        x, y, width, height, angle = _numbers(turned, ("cx", "cy", "w", "h", "angle"))
        corner = (x - width / 2, y - height / 2)
        return regions.turned_box(*corner, width, height, math.degrees(angle), size())
    outline = _outline(element.find("polygon"))
    drawn = regions.boxed([outline], size()) if outline else None
    corners = element.find("bndbox")
    if drawn and corners is None:
        return drawn
    names = ("xmin", "ymin", "xmax", "ymax")
    x0, y0, x1, y1 = _numbers(corners if corners is not None else Element("bndbox"), names)
    x0 = 0.0 if 0 <= x0 < 1 else x0 - 1
    y0 = 0.0 if 0 <= y0 < 1 else y0 - 1
    if degrees % 360:
        return regions.turned_box(x0, y0, x1 - x0, y1 - y0, degrees, size())
    return Box(x0, y0, x1 - x0, y1 - y0, region=drawn.region if drawn else None)


def _outline(polygon: Element | None) -> list[float]:
    """The corners of a polygon: `x1, y1, x2, y2, ...`, or LabelMe's points `pt`."""
    if polygon is None:
        return []
    texts = {one.tag: one.text for one in polygon}
    corners = [point.findtext(axis) for point in polygon.iterfind("pt") for axis in "xy"]
    while (key := f"x{len(corners) // 2 + 1}") in texts:
        corners += [texts[key], texts.get(f"y{key[1:]}")]
    return regions.ring(corners) if corners else []


def _numbers(element: Element, keys: tuple[str, ...]) -> list[float]:
    return [regions.numeric(key, element.findtext(key)) for key in keys]
