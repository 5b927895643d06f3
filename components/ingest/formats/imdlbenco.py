"""IMDL-BenCo lists: a JSON list of `[photo, mask]` pairs, `"Negative"` for an authentic photo.

Paths are relative to the list's folder, or absolute but below it. In a folder of several lists the
names tell the split (`train.json`, `test.json`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from components.core.errors import InputError
from components.core.files import read_json
from components.data.dataset import Inside
from components.data.manifest import AUTHENTIC, MANIPULATED
from components.ingest.formats import casia
from components.ingest.formats.record import Reading, Record, split_named
from components.ingest.formats.source import Source

NEGATIVE = "negative"


def matches(source: Source) -> bool:
    """Whether this is such a list or a folder with such lists."""
    return bool(_lists(source.path))


def read(source: Source) -> Reading:
    """All pairs of the list or lists.

    Raises:
        InputError: something other than pairs of paths, or a path that leaves the folder.
    """
    files = _lists(source.path)
    if not files:
        raise InputError("no list of [photo, mask] pairs", where=str(source.path))
    records: list[Record] = []
    for file in files:
        split = split_named(file.stem) if len(files) > 1 else None
        records += [_record(file, row, split) for row in read_json(file)]
    return Reading(records)


def _lists(source: Path) -> list[Path]:
    """The JSON files that are lists of pairs (the first row tells)."""
    files = [source] if source.is_file() else sorted(source.glob("*.json"))
    return [file for file in files if file.suffix == ".json" and _is_list(file)]


def _is_list(file: Path) -> bool:
    try:
        value = read_json(file)
    except InputError:
        return False
    return isinstance(value, list) and bool(value) and _is_pair(value[0])


def _is_pair(row: Any) -> bool:
    return isinstance(row, list) and len(row) == 2 and all(isinstance(p, str) for p in row)


def _record(file: Path, row: Any, split: str | None) -> Record:
    """One pair."""
    if not _is_pair(row):
        raise InputError(f"{row!r} is not a [photo, mask] pair", where=str(file))
    name = _relative(file, row[0])
    negative = row[1].lower() == NEGATIVE
    stem = Path(name).stem
    return Record(
        photo=file.parent / name,
        name=name,
        label=AUTHENTIC if negative else MANIPULATED,
        mask=None if negative else file.parent / _relative(file, row[1]),
        split=split,
        origins=casia.origins(stem),
        kind=casia.kind(stem),
    )


def _relative(file: Path, path: str) -> str:
    """A path of the list, below the list's folder; raises InputError when it leaves it."""
    relative = os.path.relpath(path, file.parent.absolute()) if os.path.isabs(path) else path
    Inside(file.parent)(relative)
    return os.path.normpath(relative)
