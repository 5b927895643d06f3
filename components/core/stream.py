"""Streaming: load ahead in threads, in order, and group into batches of bounded size.

What is held at any time depends on the number of workers and the size of a batch, never on the
number of items.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

BATCH = 16  # photos
BATCH_PIXELS = 16_000_000


def workers() -> int:
    """Threads that decode and measure: the cores we may use, at most eight."""
    return min(8, len(os.sched_getaffinity(0)))


def ahead(
    items: Iterable[Item],
    work: Callable[[Item], Result],
    threads: int | None = None,
    pool: Executor | None = None,
) -> Iterator[Result]:
    """`work` on each item in threads, results in the items' order, a few of them ahead.

    Items are drawn in the caller's thread. An exception in `work` is raised in its item's place.
    A pool of so many processes may take the threads' place; it is shut down in the end.
    """
    threads = threads or workers()
    pool = pool or ThreadPoolExecutor(threads)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def batches(items: Iterable[Item], pixels: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Group items, in order, by at most `BATCH` of them and about `BATCH_PIXELS` in sum.

    Only the items' order and sizes decide, so equal input makes equal batches (a network's float
    sums depend on them). An item larger than the limit makes a batch of its own.
    """
    batch: list[Item] = []
    held = 0
    for item in items:
        size = pixels(item)
        if batch and (len(batch) == BATCH or held + size > BATCH_PIXELS):
            yield batch
            batch, held = [], 0
        batch.append(item)
        held += size
    if batch:
        yield batch
