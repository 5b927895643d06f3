"""The readers by name, and which of them reads a source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from components.core.errors import InputError
from components.data.dataset import unique
from components.ingest.formats import coco, folders, imdlbenco, voc
from components.ingest.formats.record import Reading


class Format(NamedTuple):
    """A reader: `matches` tells whether a source is of its format, `read` returns the records."""

    matches: Callable[[Path], bool]
    read: Callable[[Path], Reading]
    what: str


FORMATS = {
    "coco": Format(coco.matches, coco.read, "COCO detection JSON"),
    "folders": Format(folders.matches, folders.read, "folders Tp|Sp/, Gt/, Au/"),
    "imdlbenco": Format(imdlbenco.matches, imdlbenco.read, "IMDL-BenCo JSON list"),
    "voc": Format(voc.matches, voc.read, "Pascal VOC XML"),
}


def detect(source: Path) -> str:
    """The name of the one format that fits; raises InputError when none or several do."""
    if not source.exists():
        raise InputError("no such file or folder", where=str(source))
    found = [name for name, reader in FORMATS.items() if reader.matches(source)]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"could be {' or '.join(found)}", where=str(source), hint="choose one with --format"
        )
    coco.refuse_broken(source)
    known = ", ".join(reader.what for reader in FORMATS.values())
    raise InputError("no annotations found", where=str(source), hint=f"readable are: {known}")


def read(source: Path, format: str | None = None) -> Reading:
    """Read a source in the given format, or the detected one.

    Raises:
        InputError: unknown format, nothing readable, a structural error, a photo listed twice, or
            no photo at all.
    """
    name = format or detect(source)
    if name not in FORMATS:
        raise InputError(f"unknown format {name!r}", hint=f"one of {', '.join(FORMATS)}")
    if not source.exists():
        raise InputError("no such file or folder", where=str(source))
    reading = FORMATS[name].read(source)
    if not reading.records:
        raise InputError("no photos in it", where=str(source))
    unique("photo", (record.name for record in reading.records), str(source))
    return reading
