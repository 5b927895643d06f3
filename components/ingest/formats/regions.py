"""Geometry of drawn shapes: polygons and masks, in pixels of the upright photo, and their boxes.

Masks are COCO's compressed RLE. COCO's own codec trusts what it is given, so numbers of runs are
checked before it sees them.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as codec

from components.core.images import MAX_SIDE
from components.ingest.formats.record import Box, Region, RowError

Size = tuple[int, int]  # width, height
_MOST_PIXELS = 1 << 28
_ELLIPSE = 64  # corners of the polygon that stands for one


def boxed(region: Region, size: Size) -> Box:
    """The box round a region, with what of it lies on a photo of this size.

    Raises:
        RowError: nothing of it does, or it is a mask of another size.
    """
    if isinstance(region, dict):
        if tuple(region["size"]) != (size[1], size[0]):
            height, width = region["size"]
            raise RowError(f"mask is {width}x{height} but the photo is {size[0]}x{size[1]}")
        if not codec.area(region):
            raise RowError("its mask is empty")
        x, y, width, height = map(float, codec.toBbox(region))
        return Box(x, y, width, height, region=region)
    inside = [ring for polygon in region if len(ring := _clipped(polygon, size)) >= 6]
    xs = [x for ring in inside for x in ring[0::2]]
    ys = [y for ring in inside for y in ring[1::2]]
    if not inside or min(xs) >= max(xs) or min(ys) >= max(ys):
        raise RowError(f"its outline encloses nothing of the photo ({size[0]}x{size[1]})")
    x, y = min(xs), min(ys)
    return Box(x, y, max(xs) - x, max(ys) - y, region=inside)


def numeric(what: str, value: Any) -> float:
    """A number, also one written as text; raises RowError for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise RowError(f"{what} is {shown(value)}, not a number")
    return number


def shown(value: Any) -> str:
    """A value as it is written in a complaint: the beginning of a long one."""
    return reprlib.repr(value)


def ring(values: Iterable[Any]) -> list[float]:
    """A polygon `x, y, x, y, ...` of three corners or more; raises RowError for anything else."""
    numbers = [numeric("its outline", value) for value in values]
    if len(numbers) % 2 or len(numbers) < 6:
        raise RowError(f"its outline of {len(numbers)} numbers is not three corners or more")
    return numbers


def _clipped(polygon: Sequence[float], size: Size) -> list[float]:
    """A polygon cut off at the photo's edges (Sutherland and Hodgman), flat again."""
    points = list(zip(polygon[0::2], polygon[1::2], strict=True))
    for axis in (0, 1):
        for edge, sign in ((0.0, 1.0), (float(size[axis]), -1.0)):
            if any(sign * (point[axis] - edge) < 0 for point in points):
                points = _cut(points, axis, edge, sign)
    return [value for point in points for value in point]


def _cut(
    points: list[tuple[float, float]], axis: int, edge: float, sign: float
) -> list[tuple[float, float]]:
    """A polygon without what lies beyond one edge."""
    kept = []
    for before, point in zip([points[-1], *points[:-1]], points, strict=True):
        here, there = sign * (point[axis] - edge), sign * (before[axis] - edge)
        if (here < 0) != (there < 0):
            share = there / (there - here)
            across = before[1 - axis] + share * (point[1 - axis] - before[1 - axis])
            kept.append((edge, across) if axis == 0 else (across, edge))
        if here >= 0:
            kept.append(point)
    return kept


def turned(corners: Sequence[float], degrees: float, about: tuple[float, float]) -> list[float]:
    """A polygon turned clockwise, as seen, about a point."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    if degrees % 90 == 0:  # exact, as most are
        cos, sin = round(cos), round(sin)
    result: list[float] = []
    for x, y in zip(corners[0::2], corners[1::2], strict=True):
        dx, dy = x - about[0], y - about[1]
        result += [about[0] + dx * cos - dy * sin, about[1] + dx * sin + dy * cos]
    return ring(result)


def rectangle(x: float, y: float, width: float, height: float) -> list[float]:
    """The corners of an upright box, clockwise."""
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def turned_box(x: float, y: float, width: float, height: float, degrees: float, size: Size) -> Box:
    """The upright box round one that is turned about its centre."""
    corners = turned(rectangle(x, y, width, height), degrees, (x + width / 2, y + height / 2))
    return noted(boxed([corners], size), f"the upright box of one turned by {degrees:g} degrees")


def noted(box: Box, note: str) -> Box:
    """A box with a remark on what was made of it."""
    return Box(box.x, box.y, box.width, box.height, region=box.region, note=note)


def ellipse(
    centre: tuple[float, float], radii: tuple[float, float], degrees: float = 0.0
) -> list[float]:
    """A polygon for an ellipse, turned clockwise about its centre."""
    if not all(math.isfinite(value) and value > 0 for value in radii):
        raise RowError(f"an ellipse with radii {radii[0]:g} and {radii[1]:g}")
    angles = np.arange(_ELLIPSE) * (2 * math.pi / _ELLIPSE)
    points = np.stack(
        [centre[0] + radii[0] * np.cos(angles), centre[1] + radii[1] * np.sin(angles)], axis=1
    )
    return turned(points.ravel().tolist(), degrees, centre)


def rle(counts: Any, size: Size) -> dict[str, Any]:
    """Compressed RLE from runs as COCO counts them: by columns, the first one outside.

    Args:
        counts: a list of numbers, or COCO's text for one.
        size: of the mask.

    Raises:
        RowError: it is neither, or has more pixels than the mask.
    """
    width, height = checked_size(*size)
    runs = _runs(counts) if isinstance(counts, str | bytes) else counts
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        raise RowError("its mask's RLE is not a list of numbers of pixels")
    missing = width * height - sum(runs)
    if missing < 0:
        raise RowError(f"its mask's RLE has more pixels than {width}x{height}")
    # Some tools leave out the last run, which is outside.
    runs = _merged([*runs, *([0] if len(runs) % 2 else []), missing])
    return _as_text(codec.frPyObjects({"counts": runs, "size": [height, width]}, height, width))


def _merged(runs: list[int]) -> list[int]:
    """Runs without empty ones between others, which the codec's boxes do not allow for."""
    merged = runs[:1]
    for place, run in enumerate(runs[1:], start=1):
        if (len(merged) - 1) % 2 == place % 2:
            merged[-1] += run
        elif run:
            merged.append(run)
    return merged


def _runs(text: str | bytes) -> list[int]:
    """The runs in COCO's compressed RLE: 5 bits a character, from the fourth on as differences."""
    data = text.encode("ascii", "replace") if isinstance(text, str) else text
    runs: list[int] = []
    value = shift = 0
    for code in (byte - 48 for byte in data):
        if not 0 <= code < 64 or shift > 60:
            raise RowError("its mask's RLE is not COCO's")
        value |= (code & 0x1F) << shift
        shift += 5
        if not code & 0x20:
            value -= (1 << shift) if code & 0x10 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise RowError("its mask's RLE ends early")
    return runs


def from_array(mask: np.ndarray) -> dict[str, Any]:
    """Compressed RLE of a mask, bool (H, W)."""
    return _as_text(codec.encode(np.asfortranarray(mask, dtype=np.uint8)))


def placed(mask: np.ndarray, left: int, top: int, size: Size) -> dict[str, Any]:
    """Compressed RLE of a mask, bool (H, W), that lies at a place of a photo of this size."""
    width, height = checked_size(*size)
    whole = np.zeros((height, width), bool)
    x, y = max(left, 0), max(top, 0)
    part = mask[y - top :, x - left :][: max(height - y, 0), : max(width - x, 0)]
    whole[y : y + part.shape[0], x : x + part.shape[1]] = part
    return from_array(whole)


def _as_text(encoded: dict[str, Any]) -> dict[str, Any]:
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode("ascii")}


def checked_size(width: Any, height: Any) -> Size:
    """The size of a mask that can be decoded; raises RowError for any other."""
    sides = (width, height)
    if not all(type(side) is int and 0 < side <= MAX_SIDE for side in sides):
        raise RowError(f"its mask's size is {shown(width)} by {shown(height)}")
    if width * height > _MOST_PIXELS:
        raise RowError(f"its mask of {width}x{height} is too large")
    return width, height
