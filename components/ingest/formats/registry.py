"""The readers by name, and which of them reads a source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from components.core.errors import InputError
from components.core.images import SUFFIXES
from components.data.dataset import unique
from components.ingest.formats import (
    coco,
    cvat,
    folders,
    imdlbenco,
    labelme,
    labelstudio,
    voc,
    yolo,
)
from components.ingest.formats.record import Left, Reading
from components.ingest.formats.source import Source, hidden


class Format(NamedTuple):
    """A reader: `matches` tells whether a source is of its format, `read` returns the records."""

    matches: Callable[[Source], bool]
    read: Callable[[Source], Reading]
    what: str


FORMATS = {
    "coco": Format(coco.matches, coco.read, "COCO detection JSON"),
    "cvat": Format(cvat.matches, cvat.read, "CVAT for images 1.1 XML"),
    "folders": Format(folders.matches, folders.read, "folders Tp|Sp/, Gt/, Au/"),
    "imdlbenco": Format(imdlbenco.matches, imdlbenco.read, "IMDL-BenCo JSON list"),
    "labelme": Format(labelme.matches, labelme.read, "LabelMe JSON"),
    "label-studio": Format(labelstudio.matches, labelstudio.read, "Label Studio JSON"),
    "voc": Format(voc.matches, voc.read, "Pascal VOC XML"),
    "yolo": Format(yolo.matches, yolo.read, "YOLO labels"),
}


def detect(source: Source) -> str:
    """The name of the one format that fits; raises InputError when none or several do."""
    found = [name for name, reader in FORMATS.items() if reader.matches(source)]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"could be {' or '.join(found)}",
            where=str(source.path),
            hint="choose one with --format",
        )
    for file in source.sample(".json"):
        source.json(file)  # raises for one that cannot be read
    for file in source.sample(".xml"):
        source.xml(file)
    known = ", ".join(reader.what for reader in FORMATS.values())
    raise InputError("no annotations found", where=str(source.path), hint=f"readable are: {known}")


def read(path: Path, format: str | None = None) -> Reading:
    """Read a source in the given format, or the detected one; every file of it is accounted for.

    Raises:
        InputError: unknown format, nothing readable, a structural error, a photo listed twice, or
            no photo at all.
    """
    source = Source(path)
    name = format or detect(source)
    if name not in FORMATS:
        raise InputError(f"unknown format {name!r}", hint=f"one of {', '.join(FORMATS)}")
    reading = FORMATS[name].read(source)
    if not reading.records:
        raise InputError("no photos in it", where=str(path))
    unique("photo", (record.name for record in reading.records), str(path))
    for record in reading.records:
        for file in filter(None, (record.photo, record.mask)):
            source.use(file)
    left = [*source.left, *(Left(name, _unused(name)) for name in source.unused())]
    return replace(reading, left=left)


def _unused(name: str) -> str:
    """Why a file of the source is not taken that no reader used."""
    if hidden(name):
        return "a hidden file"
    if Path(name).suffix.lower() in SUFFIXES:
        return "a photo that the annotations do not name"
    return "not a file of this format"
