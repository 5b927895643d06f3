"""What can be wrong with one row of a source: the rules that an import holds every photo to."""

from __future__ import annotations

import math
import posixpath

from components.core.files import printable
from components.data.manifest import AUTHENTIC, MANIPULATED
from components.data.scan import Scan
from components.ingest.formats.record import Box, Record

# Exporters round and scale; a box that overhangs by less than this many pixels is clipped.
SLACK = 1.0
# What is made of a photo bears its name and a suffix; file systems end names at 255 bytes.
LONGEST_NAME = 240


def problem(record: Record, seen: Scan) -> str | None:
    """The first thing wrong with a row, or None."""
    if seen.problem:
        return seen.problem
    if printable(record.name) != record.name:
        return "its name is not UTF-8"
    if len(posixpath.basename(record.name).encode()) > LONGEST_NAME:
        return f"its name is longer than {LONGEST_NAME} bytes"
    if record.size and record.size != seen.size:
        listed, found = "x".join(map(str, record.size)), "x".join(map(str, seen.size))
        return f"annotated as {listed} but is {found} upright"
    if seen.mask is not None:
        if seen.mask.size != seen.size:
            found, wanted = "x".join(map(str, seen.mask.size)), "x".join(map(str, seen.size))
            return f"mask is {found} but the photo is {wanted}"
        if seen.mask.components is not None and not len(seen.mask.components):
            return "mask is empty (values above 127 mean manipulated)"
    if record.label == AUTHENTIC and record.boxes:
        return "authentic, but has a box"
    if record.label == MANIPULATED and not record.boxes and record.mask is None:
        return "manipulated, but has neither box nor mask"
    return next(filter(None, (_box_problem(box, *seen.size) for box in record.boxes)), None)


def _box_problem(box: Box, width: int, height: int) -> str | None:
    """What is wrong with a box on a photo of this size, or None."""
    values = (box.x, box.y, box.width, box.height)
    shown = "[" + ", ".join(f"{value:g}" for value in values) + "]"
    if not all(map(math.isfinite, values)):
        return f"box {shown} is not finite"
    if box.width <= 0 or box.height <= 0:
        return f"box {shown} is inverted or empty"
    over = max(-box.x, -box.y, box.x + box.width - width, box.y + box.height - height)
    if over > SLACK or min(clipped(box, width, height)[2:]) <= 0:
        return f"box {shown} lies outside the photo ({width}x{height})"
    if box.seconds is not None and not math.isfinite(box.seconds):
        return f"box {shown} took {box.seconds} seconds"
    return None


def clipped(box: Box, width: int, height: int) -> list[float]:
    """A checked box as COCO `[x, y, width, height]`, its overhang of under a pixel cut off."""
    x, y = max(box.x, 0.0), max(box.y, 0.0)
    x1, y1 = min(box.x + box.width, float(width)), min(box.y + box.height, float(height))
    return [x, y, x1 - x, y1 - y]
