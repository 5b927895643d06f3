"""The writers by name, and what each can hold of a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from components.core.errors import InputError
from components.ingest.formats.record import Record
from components.ingest.writers import coco, cvat, labelstudio, voc, yolo


class Writer(NamedTuple):
    """A writer of photos and annotations into an empty folder.

    Attributes:
        write: called with records, folder and licence; returns what it could not hold, counted.
        keeps: which of the facts that `exporting` counts it holds.
    """

    write: Callable[[Sequence[Record], Path, str], Counter[str]]
    keeps: frozenset[str]


_ON_BOXES = {"annotators of boxes", "seconds spent on boxes"}
_ON_PHOTOS = {
    "kinds of photos without a box",
    "manipulated photos without a box",
    "sources of photos",
    "origins of photos",
}
_EVERY_FACT = frozenset({*_ON_BOXES, *_ON_PHOTOS})
_TAGGED = frozenset({*_ON_BOXES, "manipulated photos without a box"})
WRITERS = {
    "coco": Writer(coco.write, _EVERY_FACT | {"licence"}),
    "yolo": Writer(yolo.write, frozenset()),
    "voc": Writer(voc.write, frozenset(_ON_BOXES)),
    "cvat": Writer(cvat.write, _TAGGED),
    "label-studio": Writer(labelstudio.write, _EVERY_FACT),
}


def get(name: str) -> Writer:
    """The writer of a format; raises InputError for an unknown one."""
    if name not in WRITERS:
        raise InputError(f"unknown format {name!r}", hint=f"one of {', '.join(WRITERS)}")
    return WRITERS[name]
