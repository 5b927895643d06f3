"""IMDL-BenCo lists: a JSON list of `[photo, mask]` pairs, `"Negative"` for an authentic photo.

In a folder of several lists the names tell the split (`train.json`, `test.json`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.core.errors import InputError
from components.core.files import printable
from components.data.manifest import AUTHENTIC, MANIPULATED
from components.ingest.formats import casia
from components.ingest.formats.record import Reading, Record, split_named
from components.ingest.formats.source import Source

NEGATIVE = "negative"


def matches(source: Source) -> bool:
    """Whether this is such a list or a folder with such lists."""
    return bool(_lists(source, source.sample(".json")))


def read(source: Source) -> Reading:
    """All pairs of the list or lists.

    Raises:
        InputError: something other than pairs of paths.
    """
    files = _lists(source, source.files(".json"))
    if not files:
        raise InputError("no list of [photo, mask] pairs", where=str(source.path))
    records: list[Record] = []
    for file in files:
        source.use(file)
        split = split_named(file.stem) if len(files) > 1 else None
        records += [_record(source, file, row, split) for row in source.json(file)]
    return Reading(records)


def _lists(source: Source, files: list[Path]) -> list[Path]:
    """Of the JSON files those that are lists of pairs: in the folder itself, else below it."""
    top = [file for file in files if source.path in (file, file.parent)]
    return [one for one in top if _is_list(source, one)] or [
        one for one in files if one not in top and _is_list(source, one)
    ]


def _is_list(source: Source, file: Path) -> bool:
    """Whether its first row is a pair."""
    try:
        value = source.json(file)
    except InputError:
        return False
    return isinstance(value, list) and bool(value) and _is_pair(value[0])


def _is_pair(row: Any) -> bool:
    return isinstance(row, list) and len(row) == 2 and all(isinstance(p, str) for p in row)


def _record(source: Source, file: Path, row: Any, split: str | None) -> Record:
    """One pair."""
    if not _is_pair(row):
        raise InputError(f"{row!r} is not a [photo, mask] pair", where=str(file))
    found = source.find(row[0], file)
    negative = row[1].strip().lower() == NEGATIVE
    mask = None if negative else source.find(row[1], file)
    name = source.relative(found.file) if found.file else printable(row[0])
    stem = Path(name).stem
    notes = [found.note, mask and mask.note and f"mask {mask.note}"]
    return Record(
        photo=found.file or source.root / name,
        name=name,
        label=AUTHENTIC if negative else MANIPULATED,
        mask=mask.file if mask else None,
        split=split,
        origins=casia.origins(stem),
        kind=casia.kind(stem),
        problem=found.problem or (mask and mask.problem and f"mask {row[1]!r}: {mask.problem}"),
        notes=tuple(filter(None, notes)),
        stated=negative,
        guessed=printable(row[0]) if found.note else None,
    )
