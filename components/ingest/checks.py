"""What is checked of every photo of a source, with its boxes and its mask, before it is taken."""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from components.core import images
from components.core.errors import InputError
from components.core.files import printable, sha256_bytes
from components.data.manifest import AUTHENTIC, MANIPULATED
from components.ingest import masks
from components.ingest.formats.record import Box, Record

# Exporters round and scale; a box that overhangs by less than this many pixels is clipped.
SLACK = 1.0
# Files derived from a photo have its name and a suffix; file systems allow 255 bytes a name.
LONGEST_NAME = 240
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SHARE = 1.5  # of a photo's size; a box in shares has no larger number


class Seen(NamedTuple):
    """What is known of a photo; with a `problem` nothing else is."""

    sha256: str = ""
    size: tuple[int, int] = (0, 0)
    mask: masks.MaskSeen | None = None
    problem: str | None = None


def look(record: Record, max_megapixels: float, *, invert: bool = False) -> Seen:
    """Read, hash and decode a photo, and its mask; what is wrong with them is in `problem`."""
    if record.problem:
        return Seen(problem=record.problem)
    try:
        data = images.read_bytes(record.photo, max_megapixels)
        size = images.check_photo(data, record.name, max_megapixels)
    except images.PhotoError as error:
        return Seen(problem=error.reason)
    try:
        mask = masks.look(record.mask, max_megapixels, invert=invert) if record.mask else None
    except images.PhotoError as error:
        return Seen(problem=f"mask {error.reason}: {Path(record.mask or '').name}")
    return Seen(sha256_bytes(data), size, mask)


def shown_name(name: str) -> str:
    """A name as it can be printed: on one line, and nothing that a terminal would obey."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", printable(name))


def problem(record: Record, seen: Seen) -> str | None:
    """The first thing wrong with a row, or None."""
    if seen.problem:
        return seen.problem
    if printable(record.name) != record.name:
        return "its name is not UTF-8"
    if shown_name(record.name) != record.name:
        return "its name has control characters"
    if len(posixpath.basename(record.name).encode()) > LONGEST_NAME:
        return f"its name is longer than {LONGEST_NAME} bytes"
    size = "x".join(map(str, seen.size))
    if record.size and record.size != seen.size:
        return f"annotated as {'x'.join(map(str, record.size))} but is {size} upright"
    if seen.mask is not None and seen.mask.problem:
        return seen.mask.problem
    if seen.mask is not None and record.mask and seen.mask.size != seen.size:
        wrong = "x".join(map(str, seen.mask.size))
        return f"mask is {wrong} but the photo is {size}: {record.mask.name}"
    if record.label == AUTHENTIC and record.boxes:
        return "authentic, but has a box"
    if record.label == MANIPULATED and not record.boxes and record.mask is None:
        return "manipulated, but has neither box nor mask"
    return next(filter(None, (_box_problem(box, *seen.size) for box in record.boxes)), None)


def _box_problem(box: Box, width: int, height: int) -> str | None:
    """What is wrong with a box on a photo of this size, or None."""
    values = (box.x, box.y, box.width, box.height)
    if not all(map(math.isfinite, values)):
        return f"box {_shown(box)} is not finite"
    if box.width <= 0 or box.height <= 0:
        return f"box {_shown(box)} is inverted or empty"
    over = max(-box.x, -box.y, box.x + box.width - width, box.y + box.height - height)
    if over > SLACK or min(clipped(box, width, height)[2:]) <= 0:
        return f"box {_shown(box)} lies outside the photo ({width}x{height})"
    if box.seconds is not None and not math.isfinite(box.seconds):
        return f"box {_shown(box)} took {box.seconds} seconds"
    if isinstance(box.region, list) and not all(map(math.isfinite, chain(*box.region))):
        return f"outline of box {_shown(box)} is not finite"
    return None


def _shown(box: Box) -> str:
    values = (box.x, box.y, box.width, box.height)
    return "[" + ", ".join(f"{value:g}" for value in values) + "]"


def clipped(box: Box, width: int, height: int) -> list[float]:
    """A checked box as COCO `[x, y, width, height]`, its overhang of under a pixel cut off."""
    x, y = max(box.x, 0.0), max(box.y, 0.0)
    x1, y1 = min(box.x + box.width, float(width)), min(box.y + box.height, float(height))
    return [x, y, x1 - x, y1 - y]


def refuse_shares(source: Path, checked: Sequence[tuple[Record, Seen]]) -> None:
    """Raise InputError where all boxes look like shares of the photo's size, not pixels."""
    boxes = [
        (record, box) for record, seen in checked if max(seen.size) > 2 for box in record.boxes
    ]
    values = [v for _, box in boxes for v in (box.x, box.y, box.width, box.height)]
    if all(0 <= v <= _SHARE for v in values) and not all(v == int(v) for v in values):
        record, box = boxes[0]
        raise InputError(
            "boxes look like shares of the photo's size, not pixels "
            f"({record.name}: {_shown(box)})",
            where=str(source),
            hint="export them in pixels",
        )


def refuse_inverted(
    source: Path, checked: Sequence[tuple[Record, Seen]], inverted: bool | None
) -> None:
    """Raise InputError where more than half of the masks are mostly white, unless that is known.

    Args:
        source: for the complaint.
        checked: the photos; masks are as they are after inverting.
        inverted: whether the masks were inverted; False says that they are right as they are.
    """
    seen = [
        (record.mask, photo.mask.white)
        for record, photo in checked
        if record.mask and photo.mask and not photo.mask.problem
    ]
    white = [(file, share) for file, share in seen if share > 0.5]
    if inverted is False or 2 * len(white) <= len(seen):
        return
    file, share = white[0]
    count = f"{len(white)} of {len(seen)} masks are mostly white"
    named = f"e.g. {file.name}: {share:.0%}"
    if inverted:
        what, hint = f"{count} after --invert-masks ({named})", "leave it out"
    else:
        what = f"{count}, as if inverted ({named})"
        hint = "--invert-masks if they are, --keep-masks if the regions are that large"
    raise InputError(what, where=str(source), hint=hint)
