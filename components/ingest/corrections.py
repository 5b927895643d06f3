"""Corrections: the boxes of a known photo as a source gives them, instead of those kept so far.

A box that comes back as it was stays exactly as it is: formats round, and some hold either a box or
an outline.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from components.data.dataset import number
from components.ingest.formats.coco import outline
from components.ingest.formats.record import Box, RowError
from components.ingest.formats.regions import Size, boxed
from components.ingest.writers.regions import decode

Row = dict[str, Any]  # a COCO annotation
_ROUNDING = 0.501  # pixels: formats round corners to whole ones
_EDGE = 1.0  # pixels: formats hold outlines to within one


def near(before: Sequence[Row], now: Sequence[Row]) -> np.ndarray:
    """Which boxes are the same but for rounding: bool (before, now)."""
    apart = np.abs(_corners(before)[:, None] - _corners(now)[None])
    return np.asarray(apart.max(axis=2) <= _ROUNDING)


def corrected(before: Sequence[Row], now: Sequence[Row], size: Size) -> list[Row]:
    """The boxes of a photo as they are now; those that were there before keep their `id`.

    Annotator and seconds stay where the source does not give them for a box that stays.
    """
    left, rows = list(before), []
    for row in now:
        old = next((one for one in left if _same_box(one, row, size)), None)
        if old is None:
            rows.append({key: value for key, value in row.items() if key != "id"})
        else:
            left.remove(old)
            rows.append(_updated(old, row, size))
    return rows


def change(before: Sequence[Row], now: Sequence[Row]) -> str | None:
    """What differs in the rows that `corrected` returns, or None; their order does not count."""
    was, found = {row["id"]: row for row in before}, {row.get("id"): row for row in now}
    if was.keys() != found.keys():
        return f"boxes replaced: {len(now)} instead of {len(before)}"
    if any(found[key].get("segmentation") != row.get("segmentation") for key, row in was.items()):
        return "outlines replaced"
    return None if was == found else "annotators or seconds replaced"


def _corners(rows: Sequence[Row]) -> np.ndarray:
    """float64 (N, 4): x0, y0, x1, y1."""
    sides = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
    return np.hstack([sides[:, :2], sides[:, :2] + sides[:, 2:]])


def _same_box(old: Row, now: Row, size: Size) -> bool:
    """Whether a box is as it was; one that is only the box round an equal outline says no more."""
    if near([old], [now]).item():
        return True
    drawn = _drawn(now, size)
    return drawn is not None and _apart(drawn, now) <= _EDGE and _same_outline(old, now, size)


def _updated(old: Row, now: Row, size: Size) -> Row:
    """A box that stays, with what else the source gives for it."""
    row = dict(old)
    if not _same_outline(old, now, size):
        row.pop("segmentation", None)
        row |= {key: now[key] for key in ("segmentation",) if key in now}
    if now.get("annotator") is not None:
        row["annotator"] = now["annotator"]
    seconds = now.get("seconds")
    if seconds is not None and not math.isclose(seconds, number(old.get("seconds")) or 0):
        row["seconds"] = seconds
    return row


def _drawn(row: Row, size: Size) -> Box | None:
    """A row's outline with the box round it, if there is one that can be read."""
    try:
        region = outline(row.get("segmentation"))
        return boxed(region, size) if region else None
    except RowError:
        return None


def _same_outline(old: Row, now: Row, size: Size) -> bool:
    """Whether every pixel of each outline lies within a pixel of the other."""
    one, other = _drawn(old, size), _drawn(now, size)
    if one is None or other is None or one.region == other.region:
        return one == other
    if _apart(one, {"bbox": [other.x, other.y, other.width, other.height]}) > 2 * _EDGE:
        return False
    masks = [decode(box.region or [], size) for box in (one, other)]
    wide = [cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0 for mask in masks]
    return not (masks[0] & ~wide[1] | masks[1] & ~wide[0]).any()


def _apart(box: Box, row: Row) -> float:
    """The largest distance between the corners of two boxes, in pixels."""
    corners = _corners([{"bbox": [box.x, box.y, box.width, box.height]}, row])
    return float(np.abs(corners[0] - corners[1]).max())
