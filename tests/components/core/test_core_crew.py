"""Shards over processes and threads: order, bounds, lost workers, failures in their place."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from components.core import crew
from components.core.crew import Crew, Sent
from components.core.errors import CheckError, InputError


class Squares:
    """Squares numbers; one that is in `deadly` kills its worker the first so many times."""

    way = "processes"

    def __init__(self, folder: Path, deadly: dict[int, int]) -> None:
        self._folder, self._deadly = folder, deadly

    def identity(self) -> str:
        return "squares"

    def work(self, shard: int) -> tuple[int, int]:
        tries = self._folder / str(shard)
        with tries.open("a") as file:
            file.write("x")
        if len(tries.read_text()) <= self._deadly.get(shard, 0):
            os.kill(os.getpid(), signal.SIGKILL)
        if shard < 0:
            raise InputError("is negative", where=str(shard), hint="take another")
        time.sleep(0.05 if shard % 3 == 0 else 0)
        return shard * shard, os.getpid()


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def squares(folder: Path, **deadly: int) -> Crew[int, tuple[int, int]]:
    return Crew(
        Squares, folder, {int(name[1:]): count for name, count in deadly.items()}, threads=1
    )


def test_results_come_in_order_from_two_processes(tmp_path: Path) -> None:
    found = list(squares(tmp_path).map(range(20)))
    assert [result for result, _ in found] == [n * n for n in range(20)]
    assert len({pid for _, pid in found} - {os.getpid()}) == 2


def test_few_shards_start_no_process(tmp_path: Path) -> None:
    assert {pid for _, pid in squares(tmp_path).map(range(crew._FEW - 1))} == {os.getpid()}


def test_only_a_few_shards_are_drawn_ahead(tmp_path: Path) -> None:
    drawn = 0

    def shards() -> Iterator[int]:
        nonlocal drawn
        while True:
            drawn += 1
            yield drawn

    results = squares(tmp_path).map(shards())
    next(results)
    assert drawn <= 9  # two by each worker, and those that wait for the first
    results.close()
    assert not [one for one in psutil.Process().children() if "spawn_main" in str(one.cmdline())]


def test_a_lost_worker_costs_its_shard_a_second_try(tmp_path: Path) -> None:
    found = list(squares(tmp_path, n4=1, n9=1).map(range(12)))
    assert [result for result, _ in found] == [n * n for n in range(12)]
    tries = {int(path.name): path.read_text() for path in tmp_path.iterdir()}
    assert tries == {n: "xx" if n in (4, 9) else "x" for n in range(12)}


def test_a_shard_that_kills_its_worker_twice_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(CheckError, match=r"killed twice .*exit code -9"):
        list(squares(tmp_path, n4=2).map(range(12)))
    assert (tmp_path / "4").read_text() == "xx"


def test_a_failure_stands_in_its_shards_place(tmp_path: Path) -> None:
    results = squares(tmp_path).map([3, 1, -5, 2, 7])
    assert [next(results)[0], next(results)[0]] == [9, 1]
    with pytest.raises(InputError) as failed:
        next(results)
    assert failed.value.line() == "-5: is negative; take another"


class Threads(Squares):
    way = "threads"

    def __init__(self) -> None:
        self._both = threading.Barrier(2, timeout=60)

    def work(self, shard: int) -> tuple[int, int]:
        self._both.wait()
        return shard * shard, os.getpid()


def test_threads_share_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "nobody:1")
    found = list(Crew(Threads, threads=1, here=True).map(range(20)))
    assert found == [(n * n, os.getpid()) for n in range(20)]


def test_a_file_is_read_when_asked_for_or_before_it_travels(tmp_path: Path) -> None:
    path = tmp_path / "a"
    file = Sent(path.read_bytes)
    path.write_bytes(b"here")
    assert file() == b"here"
    sent = pickle.dumps(file)
    path.write_bytes(b"later")
    assert pickle.loads(sent)() == b"here"
    assert pickle.loads(pickle.dumps(pickle.loads(sent)))() == b"here"


def refused() -> bytes:
    raise InputError("is no photo", where="a.jpg")


def test_what_a_file_raises_travels_too() -> None:
    file = pickle.loads(pickle.dumps(Sent(refused)))
    with pytest.raises(InputError, match=r"a\.jpg: is no photo"):
        file()
