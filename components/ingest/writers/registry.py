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
        what: its name for people.
    """

    write: Callable[[Sequence[Record], Path, str], Counter[str]]
    keeps: frozenset[str]
    what: str


_ON_BOXES = {"annotators of boxes", "seconds spent on boxes"}
_ON_PHOTOS = {
    "kinds of photos without a box",
    "manipulated photos without a box",
    "sources of photos",
    "origins of photos",
}
WRITERS = {
    "coco": Writer(
        coco.write, frozenset({"licence", *_ON_BOXES, *_ON_PHOTOS}), "COCO instances JSON"
    ),
    "yolo": Writer(yolo.write, frozenset(), "Ultralytics YOLO"),
    "voc": Writer(voc.write, frozenset(_ON_BOXES), "Pascal VOC XML"),
    "cvat": Writer(
        cvat.write, frozenset({"manipulated photos without a box", *_ON_BOXES}), "CVAT XML 1.1"
    ),
    "label-studio": Writer(labelstudio.write, frozenset(_ON_PHOTOS), "Label Studio JSON"),
}


def get(name: str) -> Writer:
    """The writer of a format; raises InputError for an unknown one."""
    if name not in WRITERS:
        raise InputError(f"unknown format {name!r}", hint=f"one of {', '.join(WRITERS)}")
    return WRITERS[name]
