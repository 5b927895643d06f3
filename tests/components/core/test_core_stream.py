"""Loading ahead keeps order and bounds; batches depend on order and size only."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from components.core.stream import BATCH, BATCH_PIXELS, ahead, batches


def test_results_come_in_the_items_order() -> None:
    def work(number: int) -> int:
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number * number

    assert list(ahead(range(30), work, threads=4)) == [n * n for n in range(30)]


def test_only_a_few_items_are_drawn_ahead() -> None:
    drawn = 0

    def items() -> Iterator[int]:
        nonlocal drawn
        for number in range(1000):
            drawn += 1
            yield number

    results = ahead(items(), lambda number: number, threads=2)
    assert next(results) == 0
    assert drawn <= 6
    results.close()


def test_work_runs_in_parallel_threads() -> None:
    meeting = threading.Barrier(2, timeout=20)
    assert list(ahead(range(2), lambda _: meeting.wait() >= 0, threads=2)) == [True, True]


def test_a_failure_stands_in_its_items_place() -> None:
    results = ahead([4, 2, 0, 1], lambda number: 8 // number, threads=2)
    assert [next(results), next(results)] == [2, 4]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_batches_are_bounded_by_number() -> None:
    sizes = [len(batch) for batch in batches(range(2 * BATCH + 3), lambda _: 1)]
    assert sizes == [BATCH, BATCH, 3]


def test_batches_are_bounded_by_pixels() -> None:
    pixels = [BATCH_PIXELS, 1, BATCH_PIXELS // 2, BATCH_PIXELS // 2, 5 * BATCH_PIXELS, 7]
    grouped = list(batches(pixels, lambda item: item))
    assert grouped == [
        [BATCH_PIXELS],
        [1, BATCH_PIXELS // 2],
        [BATCH_PIXELS // 2],
        [5 * BATCH_PIXELS],
        [7],
    ]


def test_nothing_makes_no_batch() -> None:
    assert list(batches([], lambda _: 1)) == []
