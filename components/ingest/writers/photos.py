"""What all writers do with photos: put them in place, name their classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from components.core.files import link_or_copy
from components.data.dataset import unique
from components.data.manifest import MANIPULATED
from components.data.scan import run
from components.ingest.formats.record import Record


def place(records: Sequence[Record], folder: Callable[[Record], Path]) -> None:
    """Link or copy each photo into the folder that belongs to it."""
    run(
        lambda record: link_or_copy(record.photo.resolve(), folder(record) / record.name),
        records,
    )


def category(record: Record) -> str:
    """The class of a photo's boxes: the kind of manipulation, where it is known."""
    return record.kind or MANIPULATED


def categories(records: Sequence[Record]) -> list[str]:
    """All classes: `manipulated`, then the kinds by name."""
    return list(
        dict.fromkeys([MANIPULATED, *sorted({record.kind or "" for record in records} - {""})])
    )


def subsets(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Photos by split; those without one are `default`, as annotation tools name it."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.split or "default", []).append(record)
    return found


def stem(record: Record) -> str:
    """A photo's name without its suffix: the name of its own annotation file."""
    return PurePosixPath(record.name).with_suffix("").as_posix()


def refuse_equal_stems(records: Sequence[Record], where: Path) -> None:
    """Raise InputError where two photos would share an annotation file."""
    unique("photo without its suffix", map(stem, records), str(where))


def write_plain(path: Path, data: bytes) -> None:
    """Write one of very many files of a folder that appears as a whole: without a flush each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
