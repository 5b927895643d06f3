"""What every reader yields: one neutral record per photo, nothing decoded yet."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


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
    """One photo and what is said of it.

    Attributes:
        photo: the file, which may turn out to be missing.
        name: the photo's path below `photos/` of the data set to be, unique.
        label: `authentic` or `manipulated`.
        mask: the true mask's file, or None.
        boxes: as annotated, unchecked.
        split: `train`, `val` or `test` where the source says so.
        origins: ids of the photos it was made from; photos that share one share a group.
        kind: what was done, e.g. `splice/free`.
        source: where the photo comes from, if not from the data set's one source.
        size: (width, height) in pixels as the annotations claim, or None.
        problem: why the reader itself finds it unusable, or None.
    """

    photo: Path
    name: str
    label: str
    mask: Path | None = None
    boxes: tuple[Box, ...] = ()
    split: str | None = None
    origins: tuple[str, ...] = ()
    kind: str | None = None
    source: str | None = None
    size: tuple[int, int] | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Reading:
    """All records of a source, and remarks on what the reader took for granted."""

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
