"""From the shapes that an annotation file draws on one photo to the photo's record.

What is wrong with one photo is that record's problem, so that a single row never makes the rest of
a file unreadable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from components.core.errors import InputError
from components.core.files import printable
from components.core.images import PhotoError
from components.data.dataset import number
from components.data.manifest import AUTHENTIC, MANIPULATED
from components.ingest.formats.record import Box, Left, Reading, Record, RowError
from components.ingest.formats.regions import Size, numeric
from components.ingest.formats.source import Found, Source, plain_path, target

Measure = Callable[[], Size]


class Shape(NamedTuple):
    """What was drawn: its box, or None if it gives none, and how it is called."""

    box: Box | None
    what: str = ""  # its label: what was done to the photo there; or the kind of a shape left out
    drawn: bool = True  # and not only said of the photo, which needs no box


class Photo(NamedTuple):
    """How an annotation file names a photo, and what it says of it besides shapes."""

    names: tuple[str, ...]  # as written, then what else it may be called
    file: Path  # the annotation file
    prefer: tuple[str, ...] = ()  # folders, see `Source.find`
    size: Size | None = None
    split: str | None = None


def record(
    source: Source, photo: Photo, draw: Callable[[Measure], Iterable[Shape]], **more: Any
) -> Record:
    """The record of a photo.

    Args:
        source: where the photo is looked for.
        photo: how it is named.
        draw: its shapes, given what tells its size; may raise RowError.
        more: further fields of the record.
    """
    found = find(source, photo)
    name = source.relative(found.file) if found.file else _name(photo.names[0])
    shapes: list[Shape] = []
    problem = found.problem
    if file := found.file:
        try:
            shapes = list(draw(lambda: photo.size or source.size(file)))
        except (RowError, PhotoError) as error:
            problem = error.what
    boxes = tuple(shape.box for shape in shapes if shape.box)
    said = sorted({shape.what for shape in shapes if not shape.drawn})
    others = sorted({shape.what for shape in shapes if shape.drawn and not shape.box})
    if others and not boxes and not problem:
        problem = f"nothing drawn on it gives a box ({', '.join(others)})"
    source.left += [Left(f"{name}: {what}", "gives no box") for what in others if boxes]
    source.left += [Left(f"{name}: {printable(what)}", "no shape") for what in said]
    return Record(
        photo=found.file or source.root / name,
        name=target(name),
        label=MANIPULATED if boxes or problem else AUTHENTIC,
        boxes=boxes,
        split=photo.split,
        kind=kind(shape.what for shape in shapes if shape.box),
        size=photo.size,
        problem=problem and printable(problem),
        notes=(printable(found.note),) if found.note else (),
        guessed=_name(photo.names[0]) if found.note else None,
        **more,
    )


def _name(written: str) -> str:
    """How a photo is called that was not found."""
    return plain_path(written) or repr(written)


def stated_size(*sides: Any) -> Size | None:
    """(width, height) as annotated, where both are; tools write 0 for unknown."""
    try:
        width, height = (int(side) if type(side) in (int, str) else 0 for side in sides)
    except ValueError:
        return None
    return (width, height) if width > 0 and height > 0 else None


def find(source: Source, photo: Photo) -> Found:
    """The first of the photo's names that leads to a file."""
    tries = (source.find(name, photo.file, photo.prefer) for name in photo.names)
    found = list(_until_found(tries))
    return found[-1] if found[-1].file else found[0]


def _until_found(tries: Iterator[Found]) -> Iterator[Found]:
    for one in tries:
        yield one
        if one.file:
            return


def kind(labels: Iterable[str]) -> str | None:
    """What was done to a photo, by the labels of its shapes."""
    names = {printable(label).strip() for label in labels}
    return "+".join(sorted(n for n in names if n.lower() not in ("", MANIPULATED))) or None


def credited(box: Box, extra: Mapping[str, Any]) -> Box:
    """A box with who drew it and how long it took, where the tool's attributes tell."""
    annotator, seconds = extra.get("annotator"), extra.get("seconds")
    if annotator is None and seconds is None:
        return box
    if isinstance(seconds, str):
        with suppress(RowError):
            seconds = numeric("seconds", seconds)
    return replace(
        box,
        annotator=text(annotator) or None,
        seconds=number(seconds),
    )


def of_files(
    source: Source,
    photos: Iterable[Photo],
    parse: Callable[[Path], Any],
    fits: Callable[[Any], bool],
    make: Callable[[Source, Photo, Any], Record],
    what: str,
) -> list[Record]:
    """The records of annotation files of one photo each.

    A file that cannot be read is that photo's problem; one that does not fit is left out.

    Args:
        source: theirs.
        photos: each with its annotation file.
        parse: a file to its document; raises InputError.
        fits: whether a document is of the format.
        make: a photo's record from its document.
        what: the format's name.
    """
    records = []
    for photo in photos:
        try:
            document = parse(photo.file)
        except InputError as error:
            records.append(unreadable(source, photo, error))
            continue
        if fits(document):
            source.use(photo.file)
            records.append(make(source, photo, document))
        else:
            source.leave(photo.file, f"not a {what} file")
    return records


def reading(records: list[Record], *notes: str) -> Reading:
    """All records, with a remark on those that nothing is drawn on."""
    unlabelled = sum(r.label == AUTHENTIC and not r.problem for r in records)
    plain = (f"{unlabelled} photos without a box count as authentic",) if unlabelled else ()
    return Reading(records, [*notes, *plain])


def unreadable(source: Source, photo: Photo, error: InputError) -> Record:
    """The record of a photo whose own annotation file cannot be read."""
    source.use(photo.file)
    found = find(source, photo)
    file = found.file or photo.file
    what = f"{source.relative(photo.file)}: {error.what}"
    return Record(file, target(source.relative(file)), MANIPULATED, problem=printable(what))


def text(value: Any) -> str:
    """A label as text; "" for what is neither text nor a number."""
    return printable(str(value)) if isinstance(value, str | int | float) else ""
