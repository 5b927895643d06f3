"""One look at every photo and mask of a data set: hash, size, perceptual hash, mask components.

Each file is read once and its bytes serve hashing and decoding. Threads, because decoding and
hashing leave Python's lock and nothing has to be sent between processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import numpy as np

from components.core import images
from components.core.files import sha256_bytes
from components.core.progress import Progress
from components.core.stream import ahead
from components.data.boxes import component_boxes
from components.data.groups import phash

Item = TypeVar("Item")
Result = TypeVar("Result")


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
    phash: str = ""
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
        mask = _look_at_mask(job, max_megapixels) if job.mask else None
    except images.PhotoError as error:
        return Scan(problem=f"mask {error.reason}")
    height, width = photo.shape[:2]
    return Scan(sha256_bytes(data), (width, height), phash(photo), mask)


def _look_at_mask(job: Job, max_megapixels: float) -> Mask:
    """Hash and size of the mask; it is decoded too, for a truncated one must not pass."""
    data = images.read_bytes(job.mask or "", max_megapixels)
    mask = images.decode_mask(data, str(job.mask), max_megapixels)
    boxes = component_boxes(mask) if job.components else None
    return Mask(sha256_bytes(data), (mask.shape[1], mask.shape[0]), boxes)


def scan(
    jobs: Sequence[Job], max_megapixels: float, progress: Progress | None = None
) -> list[Scan]:
    """Look at every photo, on all cores; the results are in the order of the jobs."""
    return run(lambda job: look(job, max_megapixels), jobs, progress)


def run(
    work: Callable[[Item], Result], items: Sequence[Item], progress: Progress | None = None
) -> list[Result]:
    """`work` for every item, in order, on all cores; `progress(done, total)` as it goes on."""
    # OpenCV's own threads would only fight with ours.
    cv2.setNumThreads(1)
    results: list[Result] = []
    for result in ahead(items, work, cores()):
        results.append(result)
        if progress:
            progress(len(results), len(items))
    return results


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
