"""What became of every photo, row and file of a source: the table `import.csv` and its summary."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from components.core.files import write_text
from components.ingest.formats.source import read_text

TABLE = "import.csv"
TAKEN, NOTED, LEFT_OUT = "taken", "noted", "left out"
USED = "annotations or a mask"  # the reason of a file that is taken and no photo
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


class Outcome(NamedTuple):
    """One row: a photo by its name in the data set, anything else by its place in the source.

    A photo that is taken with several notes has a row for each.
    """

    what: str
    outcome: str  # TAKEN, NOTED (taken with a note) or LEFT_OUT
    reason: str = ""  # the note, or why it is left out


class Group(NamedTuple):
    """Rows of one outcome and, but for numbers and what follows a colon, one reason."""

    outcome: str
    rows: int
    reason: str  # of the example
    example: str


def summary(rows: Iterable[Outcome]) -> list[Group]:
    """What became of the source in a few lines: taken, then noted, then left out, most first."""
    found: dict[tuple[str, str], list[Outcome]] = {}
    for row in rows:
        kind = _NUMBER.sub("#", row.reason.partition(": ")[0])
        found.setdefault((row.outcome, kind), []).append(row)
    order = (TAKEN, NOTED, LEFT_OUT)
    return sorted(
        (Group(outcome, len(g), g[0].reason, g[0].what) for (outcome, _), g in found.items()),
        key=lambda group: (order.index(group.outcome), -group.rows),
    )


def write(path: Path, rows: Iterable[Outcome]) -> None:
    """Write the table; equal rows give equal bytes."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([Outcome._fields, *rows])
    write_text(path, text.getvalue())


def leave_out(path: Path, names: Collection[str]) -> None:
    """Remove the rows of some photos, if there is such a table."""
    if path.is_file():
        write(path, (row for row in _rows(path) if row.what not in names))


def _rows(path: Path) -> list[Outcome]:
    found = csv.reader(io.StringIO(read_text(path), newline=""))
    return [Outcome(*row) for row in found if len(row) == len(Outcome._fields)][1:]


def add(path: Path, rows: Iterable[Outcome]) -> None:
    """Add to the table the rows that it does not have yet."""
    before = _rows(path) if path.is_file() else []
    write(path, dict.fromkeys([*before, *rows]))
