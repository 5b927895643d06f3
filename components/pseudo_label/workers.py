"""Groups of photos through a teacher: in worker processes where that is faster, here otherwise.

The number of workers cannot change a mask: see `components.pseudo_label.jobs`.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ProcessPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import connection

from components.core.errors import CheckError
from components.core.params import PseudoLabel
from components.core.stream import ahead
from components.pseudo_label.cache import Cache
from components.pseudo_label.candidates import Teacher
from components.pseudo_label.jobs import Done, Job, decode, groups, label
from components.pseudo_label.registry import build, identity

_FEW = 24  # photos below which starting workers costs more than it saves
_AHEAD = 2  # groups queued per worker

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


def _work(group: list[Job]) -> list[Done]:
    if _worker is None:
        raise RuntimeError("the worker was not started")
    return list(label(group, [decode(job) for job in group], *_worker))


class Local:
    """All cores of this machine.

    Raises InputError for a teacher that cannot be built.
    """

    def __init__(self, params: PseudoLabel) -> None:
        self._params, self._teacher = params, build(params)
        self.identity = identity(self._teacher)

    def run(self, jobs: list[Job], cache: Cache) -> Iterator[Done]:
        """Label photos, in no particular order.

        Yields:
            The job, its numbers (the columns of a label that depend on photo and boxes alone),
            and why the cache could not be written, or None.

        Raises:
            InputError: a photo or box that cannot be used.
            OSError: a mask that cannot be written (full disk).
        """
        cores = len(os.sched_getaffinity(0))
        workers = min(cores // self._params.threads, len(jobs))
        if not self._teacher.processes or workers < 2 or len(jobs) < _FEW:
            yield from _here(jobs, self._teacher, cache, cores)
            return
        pool = ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start,
            initargs=(self._params, cache),
        )
        try:
            yield from _drain(pool, groups(jobs), workers * _AHEAD)
        except BrokenProcessPool:
            raise CheckError(
                "a worker process was killed (out of memory?)",
                hint="run the same command again, finished photos are kept",
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _here(jobs: list[Job], teacher: Teacher, cache: Cache, threads: int) -> Iterator[Done]:
    """In this process: the next photos are decoded while the teacher has a group."""
    photos = ahead(jobs, decode, threads)
    for group in groups(jobs):
        yield from label(group, list(islice(photos, len(group))), teacher, cache)


def _drain(
    pool: ProcessPoolExecutor, waiting_groups: Iterator[list[Job]], ahead: int
) -> Iterator[Done]:
    """Keep `ahead` groups queued, hand on whatever is done."""
    waiting: set[Future[list[Done]]] = set()
    for group in waiting_groups:
        waiting.add(pool.submit(_work, group))
        if len(waiting) >= ahead:
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                yield from future.result()
    while waiting:
        finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        for future in finished:
            yield from future.result()
