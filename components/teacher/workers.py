"""Photos through a teacher: in worker processes where that is faster, in this one otherwise.

Every photo is handled alone with the thread count of params.yaml, so the number of workers cannot
change a mask.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from components.data.images import MAX_MEGAPIXELS, decode_photo, read_bytes
from components.errors import CheckError, InputError
from components.files import sha256_bytes, write_bytes
from components.params import PseudoLabel
from components.teacher import prompts
from components.teacher.cache import Cache, Entry
from components.teacher.candidates import Teacher
from components.teacher.quality import PseudoMask, union
from components.teacher.registry import build

_FEW = 24  # photos below which starting workers costs more than it saves
_AHEAD = 4  # photos queued per worker


@dataclass(frozen=True)
class Job:
    """One photo to label.

    Attributes:
        image_id: as in the manifest.
        key: of the result in the cache.
        photo: file to read.
        sha256: of its bytes, from the manifest.
        size: (width, height) in pixels, from the manifest.
        boxes: float64 (N, 4), as drawn.
        target: the mask to write.
    """

    image_id: str
    key: str
    photo: Path
    sha256: str
    size: tuple[int, int]
    boxes: np.ndarray
    target: Path

    @property
    def megapixels(self) -> float:
        """The size limit under which its files are opened: what the manifest says they have."""
        return max(MAX_MEGAPIXELS, (self.size[0] * self.size[1] + 1) / 1e6)


Done = tuple[Job, dict[str, Any], str | None]


def pseudo_mask(teacher: Teacher, photo: np.ndarray, boxes: np.ndarray) -> PseudoMask:
    """Prompt a teacher with the boxes of one photo and unite what it answers.

    Args:
        teacher: any of the registry.
        photo: uint8 (H, W, 3), RGB.
        boxes: float64 (N, 4), as drawn.
    """
    height, width = photo.shape[:2]
    prompt = prompts.expand(boxes, teacher.margin, width, height)
    return union(teacher.stream(photo, prompt), boxes, teacher.prior)


def _label(job: Job, teacher: Teacher, cache: Cache) -> Done:
    """Make one mask, keep it in the cache and write it where it belongs."""
    data = read_bytes(job.photo, job.megapixels)
    if sha256_bytes(data) != job.sha256:
        raise InputError(
            "is not the photo of the manifest (its SHA-256 differs)",
            where=str(job.photo),
            mend="run the stage `prepare` again",
        )
    photo = decode_photo(data, str(job.photo), job.megapixels)
    try:
        made = pseudo_mask(teacher, photo, job.boxes)
    except InputError as error:
        raise InputError(error.what, where=job.image_id, mend=error.mend) from None
    entry = Entry(
        _png(made.mask),
        {
            "predicted_iou": made.predicted_iou,
            "stability": made.stability,
            "box_fit": made.box_fit,
            "confidence": made.confidence,
            "fallback": made.fallback,
            "reason": made.reason,
        },
    )
    complaint = cache.put(job.key, entry)
    write_bytes(job.target, entry.png)
    return job, entry.numbers, complaint


def _png(mask: np.ndarray) -> bytes:
    """An 8-bit grey PNG; equal pixels give equal bytes."""
    done, data = cv2.imencode(".png", mask, [cv2.IMWRITE_PNG_COMPRESSION, 6])
    if not done:
        raise RuntimeError("OpenCV cannot write PNG")
    return data.tobytes()


_worker: tuple[Teacher, Cache] | None = None


def _start(params: PseudoLabel, cache: Cache) -> None:
    """In a worker process: build the teacher once, and end when the parent is gone."""
    global _worker
    parent = multiprocessing.parent_process()
    if parent is not None:
        # A killed parent cannot stop its workers: they would wait for work for ever.
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()
    _worker = build(params), cache


def _follow(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


def _work(job: Job) -> Done:
    if _worker is None:
        raise RuntimeError("the worker was not started")
    return _label(job, *_worker)


def run(jobs: list[Job], teacher: Teacher, params: PseudoLabel, cache: Cache) -> Iterator[Done]:
    """Label photos with all cores, in no particular order.

    Yields:
        The job, its numbers (the columns of a label that depend on photo and boxes alone), and why
        the cache could not be written, or None.

    Raises:
        InputError: a photo or box that cannot be used.
        OSError: a mask that cannot be written (full disk).
    """
    workers = min(len(os.sched_getaffinity(0)) // params.threads, len(jobs))
    if not teacher.processes or workers < 2 or len(jobs) < _FEW:
        yield from (_label(job, teacher, cache) for job in jobs)
        return
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start,
        initargs=(params, cache),
    )
    try:
        yield from _drain(pool, jobs, workers * _AHEAD)
    except BrokenProcessPool:
        raise CheckError(
            "a worker process was killed (out of memory?)",
            mend="run the same command again, finished photos are kept",
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _drain(pool: ProcessPoolExecutor, jobs: list[Job], ahead: int) -> Iterator[Done]:
    """Keep `ahead` photos queued, hand on whatever is done."""
    waiting: set[Future[Done]] = set()
    for job in jobs:
        waiting.add(pool.submit(_work, job))
        if len(waiting) >= ahead:
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in finished)
    while waiting:
        finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        yield from (future.result() for future in finished)
