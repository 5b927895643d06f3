"""The table of scores: a folder `scores.parquet` of parts by name, and an index of them.

Parts have at most a few thousand rows, each is written whole, and pandas, pyarrow or Spark read the
folder as one table. A part is finished work: a run that was killed, or is started again later,
takes its rows for all photos that have not changed. The index lists the parts of the last run that
ended; others are removed when it is written.
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from components.core.errors import InputError, brief
from components.core.files import atomic, read_json, sha256_json, write_json
from components.data.manifest import read_columns, write_table
from components.serving.sources import Item

TABLE, INDEX = "scores.parquet", "_index.json"
SCHEMA = 2  # of the index; 1 was one file, sorted by score, with a folder `parts` beside it
SCORED, ABSTAINED, FAILED = "scored", "abstained", "failed"
LEAST, MOST = 32, 2048  # photos of a part
_GROWTH = 16  # a part has at most this share of the photos before it

SCORES = pa.schema(
    [
        ("name", pa.string()),  # path below the source
        ("mark", pa.string()),  # changes when the file may have
        ("status", pa.string()),  # scored | abstained | failed
        ("reason", pa.string()),  # why it was not scored, else null
        ("score", pa.float64()),  # how manipulated the photo looks, 0..1; null unless scored
        ("area", pa.float64()),  # share of its pixels above 0.5; null unless scored
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("jpeg_quality", pa.float64()),  # 1..100; null for other files
        ("sha256", pa.string()),  # of the photo's bytes
    ]
)
Row = dict[str, Any]  # of `SCORES`


class Plan(NamedTuple):
    """A part to write: its photos, the rows that are known, the photos that are left."""

    number: int
    items: list[Item]
    known: dict[str, Row]  # by name
    left: list[Item]


class _Part(NamedTuple):
    first: str
    last: str
    path: Path


class Table:
    """The table that a run writes; it goes on with the parts that are there."""

    def __init__(self, out: Path) -> None:
        """Of the results in `out`, which are brought to this schema."""
        _upgrade(out)
        self._folder = out / TABLE
        self._folder.mkdir(parents=True, exist_ok=True)
        self._kept = sorted(_part(path) for path in self._folder.glob("[0-9]*.parquet"))
        self._parts: list[dict[str, Any]] = []
        self.counts: Counter[str] = Counter()
        self.listed = 0

    def plans(self, items: Iterable[Item]) -> Iterator[Plan]:
        """The parts of photos sorted by name; the first are small, so that few are spread too.

        Photos that failed are left, to be tried again.
        """
        coming, waiting, near = iter(items), deque(self._kept), list[_Part]()
        number = 0
        while chunk := list(islice(coming, min(MOST, max(LEAST, self.listed // _GROWTH)))):
            self.listed += len(chunk)
            while waiting and waiting[0].first <= chunk[-1].name:
                near.append(waiting.popleft())
            near = [part for part in near if part.last >= chunk[0].name]
            marks = {item.name: item.mark for item in chunk}
            known = {
                row["name"]: row
                for part in near
                for row in pq.read_table(part.path).to_pylist()
                if row["status"] != FAILED and marks.get(row["name"]) == row["mark"]
            }
            yield Plan(number, chunk, known, [one for one in chunk if one.name not in known])
            number += 1

    def write(self, plan: Plan, found: Iterable[Row]) -> list[Row]:
        """Write a part with the rows found for the photos that were left; all its rows."""
        new = {row["name"]: row for row in found}
        rows = [plan.known.get(item.name) or new[item.name] for item in plan.items]
        digest = sha256_json([[item.name, item.mark] for item in plan.items])[:16]
        path = self._folder / f"{plan.number:07d}-{digest}.parquet"
        if new or not path.exists():
            _write(path, rows)
        self.counts.update(row["status"] for row in rows)
        ends = {"first": rows[0]["name"], "last": rows[-1]["name"]}
        self._parts.append({"file": path.name, "rows": len(rows), **ends})
        return rows

    def finish(self) -> None:
        """Write the index of the parts written, and remove all others."""
        counts = {name: self.counts[name] for name in (SCORED, ABSTAINED, FAILED)}
        total = self.counts.total()
        index = {"schema": SCHEMA, "rows": total, "status": counts, "parts": self._parts}
        write_json(self._folder / INDEX, index)
        named = {INDEX, *(part["file"] for part in self._parts)}
        for path in self._folder.iterdir():  # also what a kill left half written
            if path.name not in named:
                path.unlink()


def read(path: Path, *columns: str) -> pd.DataFrame:
    """Columns of a table of scores, also of schema 1.

    Raises:
        InputError: no table, of a later schema, or without one of these columns.
    """
    if not path.is_dir():
        return read_columns(path, *columns)
    files = sorted(path.glob("[0-9]*.parquet"))
    if (path / INDEX).is_file():  # else its first run has not ended
        index = read_json(path / INDEX)
        if index["schema"] != SCHEMA:
            what = f"a table of schema {index['schema']}, this program reads up to {SCHEMA}"
            raise InputError(what, where=str(path))
        files = [path / part["file"] for part in index["parts"]]
    if not files:
        raise InputError("no table of scores", where=str(path), hint="run `iml score`")
    return pd.concat([read_columns(file, *columns) for file in files], ignore_index=True)


def _write(path: Path, rows: list[Row]) -> None:
    with atomic(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, SCORES), temporary)


def _part(path: Path) -> _Part:
    """A part, and the names that it begins and ends with."""
    try:
        known = pq.read_metadata(path).row_group(0).column(0).statistics
    except (pa.ArrowInvalid, OSError) as error:
        what = f"not a Parquet file ({brief(error)})"
        hint = "remove it, its photos are scored again"
        raise InputError(what, where=str(path), hint=hint) from None
    if known is None or not known.has_min_max:  # of names that are very long
        return _Part("", chr(sys.maxunicode), path)
    return _Part(known.min, known.max, path)


def _upgrade(out: Path) -> None:
    """Results of schema 1: the rows of `parts`, which holds all of them, as parts by name."""
    parts, table = out / "parts", out / TABLE
    if not parts.is_dir():
        return
    if table.is_file():
        table.unlink()
    table.mkdir(exist_ok=True)
    files = sorted(parts.glob("[0-9]*.parquet"))
    if files:
        rows = pd.concat([read_columns(file, *SCORES.names) for file in files])
        rows = rows.drop_duplicates("name", keep="last").sort_values("name")
        for number, start in enumerate(range(0, len(rows), MOST)):
            write_table(table / f"{number:07d}-0.parquet", rows[start : start + MOST], SCORES)
    shutil.rmtree(parts)
