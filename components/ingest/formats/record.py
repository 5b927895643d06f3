"""What every reader returns: one neutral record per photo, nothing decoded yet."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from components.core.errors import InputError

_SYNONYMS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
SPLIT_NAMES = {name: split for split, names in _SYNONYMS.items() for name in names}


# A region as COCO's `segmentation`: polygons `[[x, y, x, y, ...], ...]` in pixels of the upright
# photo, or compressed RLE `{"size": [height, width], "counts": text}`.
Region = list[list[float]] | dict[str, Any]


@dataclass(frozen=True)
class Box:
    """A coarse box as annotated: `x, y, width, height` in pixels of the upright photo."""

    x: float
    y: float
    width: float
    height: float
    annotator: str | None = None
    seconds: float | None = None
    region: Region | None = None  # what was drawn, if finer than the box
    note: str | None = None  # what the reader made of it, e.g. of a turned box


@dataclass(frozen=True)
class Record:
    """One photo and its annotations."""

    photo: Path  # the file, which may be missing
    name: str  # the photo's path below `photos/` of the data set to be, unique
    label: str  # `authentic` or `manipulated`
    mask: Path | None = None  # the true mask's file
    boxes: tuple[Box, ...] = ()  # as annotated, unchecked
    split: str | None = None  # `train`, `val` or `test` if the source states one
    origins: tuple[str, ...] = ()  # ids of the photos it was made from; sharing one shares a group
    kind: str | None = None  # what was done, e.g. `splice/free`
    source: str | None = None  # where the photo comes from, if not from the data set's one source
    size: tuple[int, int] | None = None  # (width, height) in pixels according to the annotations
    problem: str | None = None  # why the reader itself finds it unusable
    notes: tuple[str, ...] = ()  # what was assumed about it
    guessed: str | None = None  # its path in the source, if only its base name led to the file
    stated: bool = False  # the source itself says `authentic`: it is not only without annotation


class RowError(InputError):
    """What an annotation file says of one photo cannot be used; the rest of it can."""


class Left(NamedTuple):
    """A file, or a row of one, that is not taken, and why."""

    what: str
    reason: str


@dataclass(frozen=True)
class Reading:
    """All records of a source, what of it is left out, and remarks on what the reader assumed."""

    records: list[Record]
    notes: list[str] = field(default_factory=list)
    # Filled in by `registry.read`:
    left: list[Left] = field(default_factory=list)
    used: list[str] = field(default_factory=list)  # files read that are no photos, in the source


def split_named(name: str) -> str | None:
    """The split that a file or folder name means (`instances_val2017`, `train`), or None."""
    words = [word.rstrip("0123456789") for word in re.split(r"[-._ ]", name.lower())]
    found = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    return found.pop() if len(found) == 1 else None


def first_file(candidates: Iterable[Path]) -> Path | None:
    """The first candidate that exists as a file."""
    # Not `Path.is_file`, which raises for a name that is too long to exist.
    return next((path for path in candidates if os.path.isfile(path)), None)
