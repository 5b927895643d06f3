"""CVAT for images 1.1: one XML file with an `<image>` per photo.

Photos lie in `images/`, those of subsets in a folder named like the subset. Photos without a shape
are authentic, unless a tag says `manipulated`; points, polylines, cuboids, skeletons and other tags
are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from components.core.errors import InputError
from components.data.manifest import MANIPULATED
from components.ingest.formats import regions
from components.ingest.formats.record import Box, Reading, Record, RowError, split_named
from components.ingest.formats.shapes import (
    Measure,
    Photo,
    Shape,
    credited,
    reading,
    record,
    stated_size,
)
from components.ingest.formats.source import Source

_LEFT = ("points", "polyline", "cuboid", "skeleton")


def matches(source: Source) -> bool:
    """Whether this is a CVAT file or a folder with one."""
    return any(isinstance(root, Element) and _is_cvat(root) for _, root in source.documents())


def _is_cvat(root: Element) -> bool:
    return root.tag == "annotations"


def read(source: Source) -> Reading:
    """All images of the file or files.

    Raises:
        InputError: XML that cannot be read, an image without a name, tracks of a video.
    """
    records: list[Record] = []
    for file in source.files(".xml"):
        root = source.xml(file)
        if not _is_cvat(root):
            source.leave(file, "not a CVAT file")
            continue
        if root.find("track") is not None:
            hint = "export the task as 'CVAT for images 1.1'"
            raise InputError("tracks of a video, not photos", where=str(file), hint=hint)
        source.use(file)
        records += [_record(source, file, image) for image in root.iterfind("image")]
    if len({record.split for record in records} - {None}) < 2:  # one subset alone is no split
        records = [replace(record, split=None) for record in records]
    return reading(records)


def _record(source: Source, file: Path, image: Element) -> Record:
    """One image with its shapes."""
    name, subset = image.get("name") or "", image.get("subset")
    if not name.strip("./\\ "):
        raise InputError(f"image {image.get('id')}: name is {name!r}", where=str(file))
    photo = Photo(
        (name,),
        file,
        (subset,) if subset else (),
        stated_size(image.get("width"), image.get("height")),
        split_named(subset or ""),
    )
    made = record(source, photo, lambda size: _shapes(image, size))
    tagged = any(tag.get("label") == MANIPULATED for tag in image.iterfind("tag"))
    return replace(made, label=MANIPULATED) if tagged else made


def _shapes(image: Element, size: Measure) -> Iterator[Shape]:
    for element in image:
        label = element.get("label", "")
        if element.tag in _SHAPES:
            attributes = {one.get("name", ""): one.text for one in element.iterfind("attribute")}
            yield Shape(credited(_SHAPES[element.tag](element, size), attributes), label)
        elif element.tag in _LEFT:
            yield Shape(None, element.tag)
        elif element.tag == "tag":
            yield Shape(None, f"tag {label}", drawn=False)


def _numbers(element: Element, *keys: str) -> list[float]:
    return [regions.numeric(f"{element.tag}: {key}", element.get(key)) for key in keys]


def _box(element: Element, size: Measure) -> Box:
    """A box, which may be turned clockwise about its centre."""
    x0, y0, x1, y1 = _numbers(element, "xtl", "ytl", "xbr", "ybr")
    degrees = regions.numeric("rotation", element.get("rotation") or 0)
    if degrees % 360:
        return regions.turned_box(x0, y0, x1 - x0, y1 - y0, degrees, size())
    return Box(x0, y0, x1 - x0, y1 - y0)


def _polygon(element: Element, size: Measure) -> Box:
    """A polygon, its corners written `x,y;x,y`."""
    points = (element.get("points") or "").replace(";", ",").split(",")
    return regions.boxed([regions.ring(points)], size())


def _ellipse(element: Element, size: Measure) -> Box:
    x, y, rx, ry = _numbers(element, "cx", "cy", "rx", "ry")
    degrees = regions.numeric("rotation", element.get("rotation") or 0)
    return regions.boxed([regions.ellipse((x, y), (rx, ry), degrees)], size())


def _mask(element: Element, size: Measure) -> Box:
    """A mask within a rectangle: runs by rows, the first one outside."""
    left, top, width, height = map(int, _numbers(element, "left", "top", "width", "height"))
    regions.checked_size(width, height)
    runs = [int(regions.numeric("rle", run)) for run in (element.get("rle") or "").split(",")]
    if min(runs) < 0 or sum(runs) != width * height:
        raise RowError(f"mask: its runs are not those of {width}x{height} pixels")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return regions.boxed(regions.placed(flat.reshape(height, width), left, top, size()), size())


_SHAPES = {"box": _box, "polygon": _polygon, "ellipse": _ellipse, "mask": _mask}
