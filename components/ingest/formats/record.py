"""What every reader returns: one neutral record per photo, nothing decoded yet."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

_SYNONYMS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
SPLIT_NAMES = {name: split for split, names in _SYNONYMS.items() for name in names}


@dataclass(frozen=True)
class Box:
    """A coarse box as annotated: `x, y, width, height` in pixels of the upright photo."""

    x: float
    y: float
    width: float
    height: float
    annotator: str | None = None
    seconds: float | None = None


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


@dataclass(frozen=True)
class Reading:
    """All records of a source, and remarks on what the reader assumed."""

    records: list[Record]
    notes: list[str] = field(default_factory=list)


def split_named(name: str) -> str | None:
    """The split that a file or folder name means (`instances_val`, `train`), or None."""
    words = name.lower().replace("-", "_").replace(".", "_").split("_")
    found = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    return found.pop() if len(found) == 1 else None


def first_file(candidates: Iterable[Path]) -> Path | None:
    """The first candidate that exists as a file."""
    # Not `Path.is_file`, which raises for a name that is too long to exist.
    return next((path for path in candidates if os.path.isfile(path)), None)
