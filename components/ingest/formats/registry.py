"""The readers by name, and which of them reads a source."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from components.core.errors import InputError
from components.core.images import SUFFIXES, UNREAD
from components.data.manifest import MANIPULATED
from components.ingest.formats import authentic as authentic_photos
from components.ingest.formats import (
    coco,
    cvat,
    folders,
    foreign,
    imdlbenco,
    labelme,
    labelstudio,
    voc,
    yolo,
)
from components.ingest.formats.record import Left, Reading, Record
from components.ingest.formats.source import Source, hidden


class Format(NamedTuple):
    """A reader: `matches` tells whether a source is of its format, `read` returns the records."""

    matches: Callable[[Source], bool]
    read: Callable[[Source], Reading]
    what: str


_ALL_AUTHENTIC = "--authentic if all photos are authentic"

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
    if len(found := _fitting(source)) == 1:
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
    foreign.refuse(source)
    known = ", ".join(reader.what for reader in FORMATS.values())
    hint = _ALL_AUTHENTIC if source.photos() else f"readable are: {known}"
    raise InputError("no annotations found", where=str(source.path), hint=hint)


def _fitting(source: Source) -> list[str]:
    return [name for name, reader in FORMATS.items() if reader.matches(source)]


def read(path: Path, format: str | None = None, *, authentic: bool = False) -> Reading:
    """Read a source in the given format, or the detected one; every file of it is accounted for.

    Args:
        path: a file or folder.
        format: a name in `FORMATS`; None detects it.
        authentic: all photos are said to be authentic, so that the source needs no annotation.

    Raises:
        InputError: unknown format, nothing readable, a structural error, a photo listed twice, no
            photo at all, or none annotated although they are not said to be authentic.
    """
    source = Source(path)
    reading = _reader(source, format, authentic)(source)
    if not reading.records:
        other = format is not None and not FORMATS[format].matches(source)
        what = f"no {FORMATS[str(format)].what}" if other else "no photos"
        raise InputError(f"{what} in it", where=str(path))
    reading = replace(reading, records=_guesses_checked(source, reading.records))
    _refuse_twice(source, reading.records)
    _refuse_unannotated(source, reading.records, authentic)
    for record in reading.records:
        for file in filter(None, (record.photo, record.mask)):
            source.use(file)
    unused = source.unused()
    left = [*source.left, *(Left(name, _unused(name)) for name in unused)]
    told = {*unused, *(row.what for row in left)}
    told.update(source.relative(record.photo) for record in reading.records)
    used = [name for name in source.names if name not in told] if path.is_dir() else []
    return replace(reading, left=left, used=used)


def _reader(source: Source, format: str | None, authentic: bool) -> Callable[[Source], Reading]:
    if authentic and format is None and not _fitting(source):
        return authentic_photos.read
    name = format or detect(source)
    if name not in FORMATS:
        raise InputError(f"unknown format {name!r}", hint=f"one of {', '.join(FORMATS)}")
    return FORMATS[name].read


def _guesses_checked(source: Source, records: list[Record]) -> list[Record]:
    """A photo that only its base name led to is missing if another row names that file."""
    named = {record.photo for record in records if record.guessed is None}
    return [
        replace(
            record,
            photo=source.root / record.guessed,
            name=record.guessed,
            problem=f"no such file ({source.relative(record.photo)} is another photo)",
            notes=(),
        )
        if record.guessed is not None and record.photo in named
        else record
        for record in records
    ]


def _refuse_twice(source: Source, records: list[Record]) -> None:
    """Raise InputError for two records of one name: a photo listed twice, or two photos."""
    seen: dict[str, Record] = {}
    for record in records:
        other = seen.setdefault(record.name, record)
        if other is record:
            continue
        if other.photo == record.photo:
            what = f"photo {record.name!r} is there twice"
            raise InputError(what, where=str(source.path), hint="list it once")
        one, two = (os.path.relpath(photo, source.root) for photo in (other.photo, record.photo))
        what = f"{one} and {two} would both be photo {record.name!r}"
        raise InputError(what, where=str(source.path), hint="rename one of them")


def _refuse_unannotated(source: Source, records: list[Record], authentic: bool) -> None:
    """Raise InputError where `authentic` and the annotations contradict each other."""
    forged = [record.name for record in records if _forged(record)]
    if authentic and forged:
        what = f"{len(forged)} photos are annotated as manipulated, e.g. {forged[0]}"
        raise InputError(what, where=str(source.path), hint="leave --authentic out")
    if not (authentic or forged or any(record.stated for record in records)):
        what = f"{len(records)} photos and not one annotation"
        raise InputError(what, where=str(source.path), hint=_ALL_AUTHENTIC)


def _forged(record: Record) -> bool:
    return bool(record.label == MANIPULATED or record.boxes or record.mask)


def _unused(name: str) -> str:
    """Why a file of the source is not taken that no reader used."""
    if hidden(name):
        return "a hidden file"
    suffix = Path(name).suffix.lower()
    if suffix in UNREAD:
        return "a photo format that is not read"
    if suffix in SUFFIXES:
        return "a photo that the annotations do not name"
    return "not a file of this format"
