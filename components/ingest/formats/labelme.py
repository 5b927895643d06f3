"""LabelMe: a JSON file per photo, with its shapes.

A rectangle is two opposite corners in any order, a circle its centre and a point on its rim, a mask
a picture that lies between two corners. Points and lines are left out. The photo that LabelMe packs
into the file (`imageData`) is not read: the photo has to be there.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Iterator
from typing import Any

from components.core.errors import InputError
from components.core.images import decode_mask
from components.ingest.formats import regions
from components.ingest.formats.record import Box, Reading, Record, RowError
from components.ingest.formats.regions import shown
from components.ingest.formats.shapes import (
    Measure,
    Photo,
    Shape,
    of_files,
    reading,
    record,
    stated_size,
    text,
)
from components.ingest.formats.source import PHOTO_FOLDERS, Source

_OUTLINES = ("polygon", "rotation", "oriented_rectangle")
_LEFT = ("point", "points", "line", "linestrip")


def matches(source: Source) -> bool:
    """Whether this is a LabelMe file or a folder with some."""
    return any(_is_labelme(document) for _, document in source.documents())


def _is_labelme(document: Any) -> bool:
    return isinstance(document, dict) and "shapes" in document and "imagePath" in document


def read(source: Source) -> Reading:
    """All annotated photos; a file that cannot be read is that photo's problem."""
    photos = (
        Photo((file.stem,), file, (file.parent.name, *PHOTO_FOLDERS))
        for file in source.files(".json")
    )
    return reading(of_files(source, photos, source.json, _is_labelme, _record, "LabelMe"))


def _record(source: Source, photo: Photo, document: dict[str, Any]) -> Record:
    """One annotated photo; where its path leads nowhere, the one named like the JSON file."""
    path = document["imagePath"]
    names = (path, *photo.names) if isinstance(path, str) and path.strip("./\\ ") else photo.names
    size = stated_size(document.get("imageWidth"), document.get("imageHeight"))
    return record(
        source,
        photo._replace(names=names, size=size),
        lambda size: _shapes(document["shapes"], size),
    )


def _shapes(shapes: Any, size: Measure) -> Iterator[Shape]:
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise RowError("shapes is not a list of objects")
    for number, shape in enumerate(shapes, start=1):
        kind = shape.get("shape_type") or "polygon"  # as the oldest versions leave it
        if kind in _LEFT:
            yield Shape(None, kind)
            continue
        try:
            yield Shape(_box(kind, shape, size), text(shape.get("label")))
        except RowError as error:
            raise RowError(f"shape {number}: {error.what}") from None


def _box(kind: Any, shape: dict[str, Any], size: Measure) -> Box:
    """One shape's box."""
    points = _points(shape.get("points"))
    if kind in _OUTLINES:
        return regions.boxed([regions.ring(value for point in points for value in point)], size())
    if kind not in ("rectangle", "circle", "mask"):
        raise RowError(f"unknown shape_type {shown(kind)}")
    if len(points) != 2:
        raise RowError(f"a {kind} of {len(points)} points, not 2")
    (x0, y0), (x1, y1) = points
    if kind == "rectangle":
        return Box(min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0))
    if kind == "circle":
        radius = math.hypot(x1 - x0, y1 - y0)
        return regions.boxed([regions.ellipse((x0, y0), (radius, radius))], size())
    return regions.boxed(_mask(shape.get("mask"), (round(x0), round(y0)), size), size())


def _points(points: Any) -> list[tuple[float, float]]:
    if not isinstance(points, list) or not all(
        isinstance(point, list) and len(point) == 2 for point in points
    ):
        raise RowError("points is not a list of pairs")
    return [(regions.numeric("x", x), regions.numeric("y", y)) for x, y in points]


def _mask(picture: Any, corner: tuple[int, int], size: Measure) -> dict[str, Any]:
    """A mask that is packed as a PNG in base64."""
    try:
        data = base64.b64decode(picture, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise RowError("mask is not base64") from None
    try:
        mask = decode_mask(data, "mask")
    except InputError as error:
        raise RowError(f"mask: {error.what}") from None
    return regions.placed(mask, *corner, size())
