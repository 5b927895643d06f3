"""Label Studio's JSON, in full or minimal (JSON-MIN): a list of tasks, each about one photo.

Shapes are in per cent of the photo; rectangles are turned clockwise about their top left corner. Of
several annotations of a task the ground truth counts, else the last that was not cancelled. A task
without one is left out: nobody has looked at the photo. `lead_time` is that of a whole annotation;
each of its boxes gets an equal share. A photo without a shape is authentic, unless `manipulated` is
chosen for it. Fields of a task that an export of this project writes are read: `split` and others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from components.core.errors import InputError
from components.data.dataset import fault, number
from components.data.manifest import MANIPULATED
from components.ingest.formats import regions
from components.ingest.formats.record import Box, Left, Reading, Record, RowError
from components.ingest.formats.regions import numeric, shown
from components.ingest.formats.shapes import (
    Measure,
    Photo,
    Shape,
    credited,
    find,
    reading,
    record,
    text,
)
from components.ingest.formats.source import Source, readings

_SHAPES = ("rectangle", "polygon", "ellipse", "brush")
_LEFT = ("keypoint", "vector", "video")
# What is said in words, not drawn.
_WORDS = ("choices", "taxonomy", "textarea", "rating", "number", "datetime", "pairwise", "relation")


class _Done(NamedTuple):
    """What was annotated in a task: its result, who did it and for how long; notes."""

    result: list[dict[str, Any]]
    annotator: Any = None
    seconds: float | None = None
    notes: tuple[str, ...] = ()

    def choices(self) -> set[str]:
        """What was chosen for the whole photo."""
        values = [row.get("value") for row in self.result if row.get("type") == "choices"]
        lists = [value.get("choices") for value in values if isinstance(value, dict)]
        return {text(one) for some in lists if isinstance(some, list) for one in some}


def matches(source: Source) -> bool:
    """Whether this is an export of Label Studio or a folder with one."""
    return any(_is_export(document) for _, document in source.documents())


def _is_export(document: Any) -> bool:
    """Whether these are tasks; the first one tells."""
    if not isinstance(document, list) or not document or not isinstance(document[0], dict):
        return False
    task = document[0]
    full = isinstance(task.get("data"), dict) and task.keys() & {"annotations", "completions"}
    return bool(full) or {"id", "annotation_id", "lead_time"} <= task.keys()


def read(source: Source) -> Reading:
    """The photos of all tasks of the file or files.

    Raises:
        InputError: JSON that cannot be read, something other than tasks, no photo in a task.
    """
    records: list[Record] = []
    for file in source.files(".json"):
        tasks = source.json(file)
        if not _is_export(tasks):
            source.leave(file, "not a Label Studio export")
            continue
        source.use(file)
        for place, task in enumerate(tasks, start=1):
            if not isinstance(task, dict):
                raise InputError(f"task {place} is not an object", where=str(file))
            if made := _record(source, file, task, place):
                records.append(made)
    if source.left and not records:
        what = f"{len(source.left)} tasks or files and not one annotation"
        raise InputError(what, where=str(source.path), hint="annotate and export again")
    return reading(records)


def _record(source: Source, file: Path, task: dict[str, Any], place: int) -> Record | None:
    """A task's photo, or None if nobody has annotated it."""
    full = isinstance(task.get("data"), dict)
    photo = _photo(source, file, task["data"] if full else task)
    if photo is None:
        raise InputError(f"task {place} names no photo", where=str(file))
    done = _done(task) if full else _done_in_short(task)
    if isinstance(done, str):
        found = find(source, photo).file
        if found:
            source.leave(found, done)
        else:
            source.left.append(Left(photo.names[0], done))
        return None
    made = record(source, photo, lambda size: _shapes(done, size))
    known = _known(task["data"]) if full else {}
    if MANIPULATED in done.choices() and not made.problem:
        made = replace(made, label=MANIPULATED, kind=made.kind or known.get("kind"))
    return replace(
        made,
        notes=(*made.notes, *done.notes),
        split=known.get("split"),
        source=known.get("source"),
        origins=tuple(known.get("origins", ())),
    )


def _known(data: dict[str, Any]) -> dict[str, Any]:
    """Of a task's fields those that an export of this project writes, if they can be that."""
    keys = ("split", "kind", "source", "origins")
    return {key: data[key] for key in keys if data.get(key) and not fault({key: data[key]})}


def _photo(source: Source, file: Path, data: dict[str, Any]) -> Photo | None:
    """How a task names its photo: under `image`, else the first value that is one."""
    texts = [data.get("image"), *data.values()]
    photos = [
        Photo(readings(value), file, ("images",))
        for value in texts
        if isinstance(value, str) and value.strip()
    ]
    return next((photo for photo in photos if find(source, photo).file), next(iter(photos), None))


def _done(task: dict[str, Any]) -> _Done | str:
    """The annotation that counts, or why there is none."""
    listed = task.get("annotations", task.get("completions"))
    rows = [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    usable = [row for row in rows if not row.get("was_cancelled")]
    if not usable:
        return "its annotations were cancelled" if rows else "not annotated"
    truths = [row for row in usable if row.get("ground_truth")]
    # Times are written so that they compare as texts.
    times = [text(row.get("updated_at")) for row in truths or usable]
    chosen = max(zip(times, count(), truths or usable, strict=False))[2]
    notes = []
    if len(usable) > 1:
        which = "the ground truth" if truths else "the last"
        notes.append(f"{which} of its {len(usable)} annotations")
    if task.get("predictions"):
        notes.append("its predictions are ignored")
    result = chosen.get("result")
    return _Done(
        [row for row in result if isinstance(row, dict)] if isinstance(result, list) else [],
        _annotator(chosen.get("completed_by")),
        _seconds(chosen),
        tuple(notes),
    )


def _done_in_short(task: dict[str, Any]) -> _Done | str:
    """The annotation of a task of JSON-MIN, its shapes grouped by the tool that drew them."""
    if task.get("annotation_id") is None:
        return "not annotated"
    result: list[dict[str, Any]] = []
    for values in task.values():
        for value in values if isinstance(values, list) else ():
            if isinstance(value, dict) and (kind := _kind_of(value)):
                result.append({**value, "type": kind, "value": value})
    return _Done(result, _annotator(task.get("annotator")), _seconds(task))


def _kind_of(value: dict[str, Any]) -> str | None:
    """What was drawn, by the keys of its value."""
    for kind in (*_SHAPES, *_LEFT):
        if f"{kind}labels" in value:
            return kind
    if "rle" in value:
        return "brush"
    if "points" in value:
        return "polygon"
    if "radiusX" in value:
        return "ellipse"
    return "rectangle" if {"x", "y", "width", "height"} <= value.keys() else None


def _annotator(value: Any) -> Any:
    """A person's address or number."""
    if isinstance(value, dict):
        value = value.get("email") or value.get("id")
    return value if isinstance(value, str | int) and value != "" else None


def _seconds(row: dict[str, Any]) -> float | None:
    value = number(row.get("lead_time"))
    return value if value is not None and 0 <= value < 1e9 else None


def _shapes(done: _Done, size: Measure) -> Iterator[Shape]:
    """The shapes of an annotation; labels may stand in a row of their own with the shape's id."""
    labels: dict[str, str] = {}
    drawn = []
    for row in done.result:
        kind = str(row.get("type", "")).removesuffix("labels")
        value = row.get("value")
        if kind in (*_SHAPES, *_LEFT):
            drawn.append((kind, row))
        elif kind:  # `labels` alone are those of a shape
            yield Shape(None, kind, drawn=kind not in _WORDS)
        if isinstance(value, dict):
            for key in (f"{kind}labels", "labels"):
                names = value.get(key)
                if isinstance(names, list) and names:
                    labels[str(row.get("id", id(row)))] = "+".join(map(text, names))
    boxes = sum(kind in _SHAPES for kind, _ in drawn)
    for kind, row in drawn:
        if kind in _LEFT:
            yield Shape(None, kind)
            continue
        seconds = done.seconds / boxes if done.seconds is not None else None
        box = credited(_box(kind, row, size), {"annotator": done.annotator, "seconds": seconds})
        yield Shape(box, labels.get(str(row.get("id", id(row))), ""))


def _box(kind: str, row: dict[str, Any], size: Measure) -> Box:
    """One shape's box."""
    value = row.get("value")
    if not isinstance(value, dict):
        raise RowError(f"{kind} without a value")
    if row.get("image_rotation"):
        raise RowError("drawn on a photo that was turned in Label Studio")
    width, height = _original(row, size)
    if kind == "brush":
        return regions.boxed(_brush(value.get("rle"), width, height), size())
    degrees = numeric("rotation", value.get("rotation") or 0)
    if kind == "polygon":
        return regions.boxed([_polygon(value.get("points"), width, height)], size())
    x, y = (numeric(key, value.get(key)) for key in "xy")
    x, y = x * width / 100, y * height / 100
    if kind == "ellipse":
        rx, ry = (numeric(key, value.get(key)) for key in ("radiusX", "radiusY"))
        radii = (rx * width / 100, ry * height / 100)
        return regions.boxed([regions.ellipse((x, y), radii, degrees)], size())
    w, h = (numeric(key, value.get(key)) for key in ("width", "height"))
    w, h = w * width / 100, h * height / 100
    if not degrees % 360:
        return Box(x, y, w, h)
    corners = regions.turned(regions.rectangle(x, y, w, h), degrees, (x, y))
    note = f"the upright box of one turned by {degrees:g} degrees"
    return regions.noted(regions.boxed([corners], size()), note)


def _original(row: dict[str, Any], size: Measure) -> tuple[int, int]:
    """The size of the photo that a shape was drawn on, which must be the photo's."""
    stated = (row.get("original_width"), row.get("original_height"))
    if stated == (None, None):
        return size()
    if stated != size():
        have = "x".join(map(str, size()))
        raise RowError(
            f"drawn on a photo of {shown(stated[0])}x{shown(stated[1])}, but it is {have}"
        )
    return size()


def _polygon(points: Any, width: int, height: int) -> list[float]:
    if not isinstance(points, list) or not all(
        isinstance(point, list) and len(point) == 2 for point in points
    ):
        raise RowError("polygon without points")
    shares = regions.ring(value for point in points for value in point)
    return [share * (height if place % 2 else width) / 100 for place, share in enumerate(shares)]


def _brush(rle: Any, width: int, height: int) -> dict[str, Any]:
    """The mask of a brush: where the opacity of the RGBA picture is above half."""
    width, height = regions.checked_size(width, height)
    flat = unpack(rle, 4 * width * height)
    return regions.from_array(flat.reshape(height, width, 4)[..., 3] > 127)


def unpack(rle: Any, expected: int) -> np.ndarray:
    """The bytes in Label Studio's run lengths (the format of @thi.ng/rle-pack).

    A stream of bits: how many values there are (32), bits a value less 1 (5), four lengths of
    counts less 1 (4 each). Then blocks: whether it is a run (1), which length of count (2), the
    count less 1, and the value, or for no run so many values.

    Raises:
        RowError: it is none, or of another number of values.
    """
    if not isinstance(rle, list) or not all(type(byte) is int and 0 <= byte < 256 for byte in rle):
        raise RowError("brush without run lengths")
    bits = np.unpackbits(np.array(rle, np.uint8))
    place = 0

    def read(count: int) -> int:
        nonlocal place
        place += count
        if place > len(bits):
            raise RowError("brush: its run lengths end early")
        return int.from_bytes(np.packbits(bits[place - count : place])) >> -count % 8

    number, word = read(32), read(5) + 1
    lengths = [read(4) + 1 for _ in range(4)]
    if number != expected or word != 8:
        raise RowError(f"brush: {number} values of {word} bits, not {expected} of 8")
    values = np.zeros(number, np.uint8)
    done = 0
    while done < number:
        run = read(1)
        end = min(done + 1 + read(lengths[read(2)]), number)
        if run:
            values[done:end] = read(8)
        else:
            count = 8 * (end - done)
            read(count)
            values[done:end] = np.packbits(bits[place - count : place])
        done = end
    return values
