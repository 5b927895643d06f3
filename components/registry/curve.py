"""The training curve of a version: its CSV as points, one metric a column and one step an epoch."""

from __future__ import annotations

import csv
import io
import math
from typing import NamedTuple

from components.core.errors import InputError

_EPOCH = "epoch"


class Point(NamedTuple):
    """One number of the curve: of a column, after that epoch (from 1)."""

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
        reader = csv.DictReader(io.StringIO(data.decode()))
        names = [name for name in reader.fieldnames or () if name != _EPOCH]
        if not names:
            raise ValueError("no column beside the epoch")
        found = [Point(n, int(row[_EPOCH]), float(row[n])) for row in reader for n in names]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise InputError(f"not a training curve ({error!r})", where=where) from None
    return [point for point in found if math.isfinite(point.value)]
