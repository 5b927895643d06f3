"""One look at every photo and mask of a data set, and a list of those that cannot be used.

Each file is read once; its bytes are both hashed and decoded. Threads, because decoding and hashing
release Python's lock and nothing has to be sent between processes.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import numpy as np

from components.core import images
from components.core.errors import InputError
from components.core.files import sha256_bytes
from components.core.progress import Progress
from components.core.stream import ahead
from components.data.boxes import component_boxes
from components.data.groups import phash

Item = TypeVar("Item")
Result = TypeVar("Result")

QUARANTINE = "quarantine.csv"
_TOGETHER = 16


class Job(NamedTuple):
    """A photo to look at, its mask if it has one, and whether the mask's boxes are wanted."""

    name: str
    photo: str | Path
    mask: str | Path | None
    components: bool


class Mask(NamedTuple):
    """What is known of a mask; `components` is float64 (N, 4) of tight boxes, if wanted."""

    sha256: str
    size: tuple[int, int]
    components: np.ndarray | None


class Scan(NamedTuple):
    """What is known of a photo; with a `problem` nothing else is."""

    sha256: str = ""
    size: tuple[int, int] = (0, 0)
    phash: str | None = None  # None for a flat photo
    mask: Mask | None = None
    problem: str | None = None


def look(job: Job, max_megapixels: float) -> Scan:
    """Read, hash and decode one photo and its mask; what is wrong with them is in `problem`."""
    try:
        data = images.read_bytes(job.photo, max_megapixels)
        photo = images.decode_photo(data, job.name, max_megapixels)
    except images.PhotoError as error:
        return Scan(problem=error.reason)
    try:
        mask = _mask(job.mask, job.components, max_megapixels) if job.mask else None
    except images.PhotoError as error:
        return Scan(problem=f"mask {error.reason}")
    height, width = photo.shape[:2]
    return Scan(sha256_bytes(data), (width, height), phash(photo), mask)


def _mask(path: str | Path, components: bool, max_megapixels: float) -> Mask:
    data = images.read_bytes(path, max_megapixels)
    # Decoded even if no components are wanted: a truncated mask must not pass.
    mask = images.decode_mask(data, str(path), max_megapixels)
    boxes = component_boxes(mask) if components else None
    return Mask(sha256_bytes(data), (mask.shape[1], mask.shape[0]), boxes)


def scan(
    jobs: Sequence[Job], max_megapixels: float, progress: Progress | None = None
) -> list[Scan]:
    """Look at every photo, on all cores; the results are in the order of the jobs."""
    return run(lambda job: look(job, max_megapixels), jobs, progress)


def run(
    work: Callable[[Item], Result], items: Sequence[Item], progress: Progress | None = None
) -> list[Result]:
    """`work` on every item, in order, on all cores; calls `progress(done, total)` now and then."""
    # OpenCV's own threads would only compete with ours.
    cv2.setNumThreads(1)
    results: list[Result] = []
    # Several at a time: for small photos, handing over one costs as much as the work on it.
    size = max(1, min(_TOGETHER, len(items) // (_TOGETHER * cores())))
    parts = [items[start : start + size] for start in range(0, len(items), size)]
    for part in ahead(parts, lambda part: [work(item) for item in part], cores()):
        results += part
        if progress:
            progress(len(results), len(items))
    return results


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Quarantined(NamedTuple):
    """A photo left out, and why."""

    photo: str
    reason: str


def quarantine_csv(rows: Sequence[tuple[str, str]]) -> str:
    """The text of a quarantine list: columns photo, reason."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("photo", "reason"), *rows])
    return text.getvalue()


def refuse_many(
    rows: Sequence[tuple[str, str]], limit: int, where: Path, listed: Path | None = None
) -> None:
    """Raise InputError for more unusable photos (with reasons) than `prepare.max_quarantined`.

    Args:
        rows: photo and reason.
        limit: how many may be left out.
        where: the data set.
        listed: a file that lists them.
    """
    if len(rows) > limit:
        photo, reason = rows[0]
        more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        see = f"see {listed}; " if listed else ""
        raise InputError(
            f"{photo}: {reason}{more}, {limit} may be left out",
            where=str(where),
            hint=f"{see}correct them or raise prepare.max_quarantined",
        )
