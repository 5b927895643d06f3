"""The training curve of a version: its CSV as points, one metric a column and one step an epoch."""

from __future__ import annotations

import csv
import io
import math
from typing import NamedTuple

from components.core.errors import InputError
from components.distill.progress import Epoch

COLUMNS = tuple(name for name in Epoch.__annotations__ if name != "epoch")


class Point(NamedTuple):
    """One number of the curve: of `COLUMNS`, after that epoch (from 1)."""

    name: str
    epoch: int
    value: float


def points(data: bytes, where: str) -> list[Point]:
    """Every finite number of a curve, in the order of its epochs.

    Args:
        data: of `runs/distill/history.csv`.
        where: what it is called, for errors.

    Raises:
        InputError: not a curve.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(data.decode())))
        found = [Point(n, int(row["epoch"]), float(row[n])) for row in rows for n in COLUMNS]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise InputError(f"not a training curve ({error!r})", where=where) from None
    return [point for point in found if math.isfinite(point.value)]
