"""Photos through a teacher on this machine: read, decode, ask the teacher, keep the mask.

Photos travel in small groups, so that a teacher can fill its batches; in worker processes where
that is faster. A photo's mask depends neither on its group nor on the process: batches are padded
to one size and threads are fixed.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing import connection
from pathlib import Path
from typing import Any

import numpy as np

from components.core.errors import CheckError, InputError
from components.core.files import sha256_bytes
from components.core.images import MAX_MEGAPIXELS, decode_photo, read_bytes
from components.core.params import PseudoLabel
from components.core.stream import ahead, batches
from components.pseudo_label import prompts, quality
from components.pseudo_label.cache import Cache, Entry
from components.pseudo_label.candidates import Prompt, Teacher
from components.pseudo_label.registry import build, identity

_FEW = 24  # photos below which starting workers costs more than it saves

_worker: tuple[Teacher, Cache] | None = None


@dataclass(frozen=True)
class Job:
    """One photo to label, as the manifest has it."""

    image_id: str
    key: str  # of the result in the cache
    photo: Path
    sha256: str
    pixels: str  # see `components.core.images.pixels_id`
    size: tuple[int, int]  # width, height in pixels
    boxes: np.ndarray  # float64 (N, 4), as drawn
    target: Path  # the mask to write
    true_mask: Path | None  # where it is known; only measured with

    @property
    def megapixels(self) -> float:
        """The size limit under which its files are opened: what the manifest says they have."""
        return max(MAX_MEGAPIXELS, (self.size[0] * self.size[1] + 1) / 1e6)

    def read(self) -> bytes:
        """The photo's file; raises InputError where it or a box is not what the manifest says."""
        try:
            prompts.expand(self.boxes, 0.0, *self.size)
        except InputError as error:
            raise InputError(error.what, where=self.image_id, hint=error.hint) from None
        data = read_bytes(self.photo, self.megapixels)
        if sha256_bytes(data) != self.sha256:
            raise InputError(
                "is not the photo of the manifest (its SHA-256 differs)",
                where=str(self.photo),
                hint="run the stage `prepare` again",
            )
        return data

    def decode(self, data: bytes) -> np.ndarray:
        """The photo's pixels, uint8 (H, W, 3)."""
        return decode_photo(data, str(self.photo), self.megapixels)

    def write(self, entry: Entry) -> None:
        """Write the mask into an empty output folder; the cache has the durable copy."""
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self.target.write_bytes(entry.png)


Done = tuple[Job, dict[str, Any], str | None]


def groups(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    """Jobs as they travel together: bounded in number and in pixels."""
    return batches(jobs, lambda job: job.size[0] * job.size[1])


def entries(jobs: Sequence[Job], photos: Sequence[np.ndarray], teacher: Teacher) -> Iterator[Entry]:
    """The finished pseudo-masks of a group of decoded photos, in order."""
    asked = [Prompt(photo, job.boxes, job.pixels) for job, photo in zip(jobs, photos, strict=True)]
    for made in quality.pseudo_masks(teacher, asked):
        yield Entry(made.png(), made.numbers())


def keep(group: Sequence[Job], made: Iterable[Entry], cache: Cache) -> Iterator[Done]:
    """Put a group's finished masks into the cache and write them where they belong."""
    for job, entry in zip(group, made, strict=True):
        complaint = cache.put(job.key, entry)
        job.write(entry)
        yield job, entry.numbers, complaint


def _decoded(job: Job) -> np.ndarray:
    return job.decode(job.read())


def _start(params: PseudoLabel, cache: Cache) -> None:
    """In a worker process: build the teacher once, and end when the parent has ended."""
    global _worker
    parent = multiprocessing.parent_process()
    if parent is not None:
        # A killed parent cannot stop its workers: they would wait for work forever.
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()
    _worker = build(params), cache


def _follow(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


def _work(group: list[Job]) -> list[Done]:
    if _worker is None:
        raise RuntimeError("the worker was not started")
    teacher, cache = _worker
    return list(keep(group, entries(group, [_decoded(job) for job in group], teacher), cache))


class Local:
    """All cores of this machine.

    Raises InputError for a teacher that cannot be built.
    """

    def __init__(self, params: PseudoLabel) -> None:
        self._params, self._teacher = params, build(params)
        self.identity = identity(self._teacher)

    def run(self, jobs: list[Job], cache: Cache) -> Iterator[Done]:
        """Label photos, in no particular order.

        Yields the job, its numbers (the columns of a label that depend on photo and boxes alone),
        and why the cache could not be written, or None. Raises InputError for a photo or box that
        cannot be used, OSError for a mask that cannot be written (full disk).
        """
        cores = len(os.sched_getaffinity(0))
        workers = min(cores // self._params.threads, len(jobs))
        if not self._teacher.processes or workers < 2 or len(jobs) < _FEW:
            photos = ahead(jobs, _decoded, cores)  # while the teacher has a group
            for group in groups(jobs):
                decoded = list(islice(photos, len(group)))
                yield from keep(group, entries(group, decoded, self._teacher), cache)
            return
        pool = ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start,
            initargs=(self._params, cache),
        )
        try:
            for done in ahead(groups(jobs), _work, workers, pool):
                yield from done
        except BrokenProcessPool:
            raise CheckError(
                "a worker process was killed (out of memory?)",
                hint="run the same command again, finished photos are kept",
            ) from None
