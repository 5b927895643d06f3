"""One look at every photo and mask of a data set, and a list of those that cannot be used.

Each file is read once; its bytes are both hashed and decoded. On one machine in threads, because
decoding and hashing release Python's lock and nothing has to be sent between processes.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np

from components.core import images
from components.core.crew import Crew, Sent, Way
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
    photo: Sent
    mask: Sent | None
    components: bool

    @classmethod
    def of(cls, name: str, photo: str, mask: str | None, components: bool, limit: float) -> Job:
        """Of files that may be on this machine only; those above `limit` megapixels are refused."""

        def sent(path: str) -> Sent:
            return Sent(partial(images.read_bytes, path, limit))

        return cls(name, sent(photo), sent(mask) if mask else None, components)


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
        data = job.photo()
        photo = images.decode_photo(data, job.name, max_megapixels)
    except images.PhotoError as error:
        return Scan(problem=error.reason)
    try:
        mask = _mask(job.mask(), job, max_megapixels) if job.mask else None
    except images.PhotoError as error:
        return Scan(problem=f"mask {error.reason}")
    height, width = photo.shape[:2]
    return Scan(sha256_bytes(data), (width, height), phash(photo), mask)


def _mask(data: bytes, job: Job, max_megapixels: float) -> Mask:
    # Decoded even if no components are wanted: a truncated mask must not pass.
    mask = images.decode_mask(data, job.name, max_megapixels)
    boxes = component_boxes(mask) if job.components else None
    return Mask(sha256_bytes(data), (mask.shape[1], mask.shape[0]), boxes)


class Looker:
    """A worker that looks at photos."""

    way: Way = "threads"

    def __init__(self, max_megapixels: float) -> None:
        self._limit = max_megapixels

    def identity(self) -> Any:
        """What is found depends on this as well."""
        return images.decoder(), cv2.__version__, np.__version__

    def work(self, shard: Sequence[Job]) -> list[Scan]:
        """What is known of some photos."""
        cv2.setNumThreads(1)  # OpenCV's own threads would only compete with ours
        return [look(job, self._limit) for job in shard]


def scan(
    jobs: Iterable[Job], count: int, max_megapixels: float, progress: Progress | None = None
) -> list[Scan]:
    """Look at every one of `count` photos, on all cores or a cluster; results in their order."""
    workers: Crew[Sequence[Job], list[Scan]] = Crew(Looker, max_megapixels, threads=1)
    return _joined(workers.map(_parts(jobs, count)), count, progress)


def run(
    work: Callable[[Item], Result], items: Sequence[Item], progress: Progress | None = None
) -> list[Result]:
    """`work` on every item, in order, on all cores; calls `progress(done, total)` now and then."""
    cv2.setNumThreads(1)
    parts = _parts(items, len(items))
    done = ahead(parts, lambda part: [work(item) for item in part], cores())
    return _joined(done, len(items), progress)


def _parts(items: Iterable[Item], count: int) -> Iterator[list[Item]]:
    """Several at a time: for small photos, handing over one costs as much as the work on it."""
    left, size = iter(items), max(1, min(_TOGETHER, count // (_TOGETHER * cores())))
    return iter(lambda: list(islice(left, size)), [])


def _joined(parts: Iterable[list[Result]], count: int, progress: Progress | None) -> list[Result]:
    results: list[Result] = []
    for part in parts:
        results += part
        if progress:
            progress(len(results), count)
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
