"""The one way to map photos over workers: processes or threads here, or Ray where it is named.

Work comes in shards. Each worker builds what it works with once and takes one shard after another;
results come in the shards' order, whatever the number of workers, and only a few shards are drawn
before they are due. A worker that is lost costs its shard a second try on the one that takes its
place; a shard whose second try is lost as well ends the run.

On a cluster there is a worker a GPU, or as many as its cores allow; its nodes need the project
installed, and must all give the same results. A shard holds what a worker cannot reach itself: a
file of this machine as `Sent`.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import threading
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from functools import cached_property, partial
from itertools import chain, islice
from multiprocessing import connection
from typing import Any, Generic, Literal, NamedTuple, NoReturn, Protocol, TypeVar

from components.core.errors import CheckError, ImlError, InputError
from components.core.stream import ahead

Shard_contra = TypeVar("Shard_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)
Shard = TypeVar("Shard")
Result = TypeVar("Result")
Way = Literal["processes", "threads", "alone"]

ADDRESS = "RAY_ADDRESS"
_FEW = 3  # shards below which starting processes costs more than it saves
_AHEAD = 2  # shards underway per worker of a cluster, and finished ones per worker that wait
_WAIT = 5  # seconds for a cluster to answer


class Worker(Protocol[Shard_contra, Result_co]):
    """What works; it is built in each worker, where building may complain only when asked."""

    @property
    def way(self) -> Way:
        """The fast way on one machine: several, each in a process; one in threads; one alone."""

    def identity(self) -> Any:
        """What the results depend on besides the shard; nodes that differ in it are refused."""

    def work(self, shard: Shard_contra) -> Result_co:
        """The result of a shard: it depends neither on earlier shards nor on the worker."""


class Sent:
    """A file's bytes: read when they are asked for, and before they leave for another process.

    Both ways `read` raises what it raises, where they are asked for.
    """

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read = read

    def __call__(self) -> bytes:
        """The bytes."""
        return self._read()

    def __reduce__(self) -> tuple[Any, ...]:
        """What travels."""
        try:
            return Sent, (partial(bytes, self._read()),)
        except ImlError as error:
            return Sent, (partial(_fail, error),)


def _fail(error: ImlError) -> NoReturn:
    raise error


class _LostError(Exception):
    """A worker ended without an answer."""


class _Underway(NamedTuple):
    worker: Any
    number: int
    shard: Any
    second: bool = False  # try

    def again(self, worker: Any, why: str) -> _Underway:
        """The second try; raises CheckError where this was it."""
        if self.second:
            raise CheckError(
                f"a worker was killed twice at the same photos ({why}; out of memory?)",
                hint="run the same command again, finished photos are kept",
            )
        return self._replace(worker=worker, second=True)


class Crew(Generic[Shard, Result]):
    """Workers `kind(*arguments)`, of this machine or of the cluster that the environment names.

    Args:
        kind: class of a worker.
        arguments: of its constructor; they travel to each worker.
        threads: cores that one worker takes.
        gpu: whether a worker of a cluster takes a GPU, where there are any.
        here: whether to stay on this machine, for arguments that cannot leave it.

    Raises:
        InputError: Ray is not installed, no cluster answers, or it has too few cores.
    """

    def __init__(
        self,
        kind: Callable[..., Worker[Shard, Result]],
        *arguments: Any,
        threads: int,
        gpu: bool = False,
        here: bool = False,
    ) -> None:
        self._make = partial(kind, *arguments)
        address = "" if here else os.environ.get(ADDRESS, "").strip()
        self._cluster = _Cluster(kind, arguments, threads, gpu, address) if address else None
        self._processes = _Processes(kind, arguments)
        self._count = max(1, len(os.sched_getaffinity(0)) // threads)

    @cached_property
    def _own(self) -> Worker[Shard, Result]:
        return self._make()

    @cached_property
    def identity(self) -> Any:
        """What the results depend on; raises CheckError where the nodes of a cluster differ."""
        return self._cluster.identity() if self._cluster else self._own.identity()

    def map(self, shards: Iterable[Shard]) -> Iterator[Result]:
        """The result of each shard, in order.

        Raises:
            CheckError: the second try of a shard was lost as well, or the cluster.
            Exception: a worker's own, in its shard's place.
        """
        coming = iter(shards)
        if self._cluster:
            return _mapped(self._cluster, coming, self._cluster.count)
        if self._own.way == "threads":
            return ahead(coming, self._own.work, self._count)
        first = list(islice(coming, max(_FEW, self._count)))
        coming = chain(first, coming)
        if self._count == 1 or len(first) < _FEW or self._own.way == "alone":
            return map(self._own.work, coming)
        return _mapped(self._processes, coming, min(self._count, len(first)))


def _mapped(team: _Processes | _Cluster, coming: Iterator[Any], count: int) -> Iterator[Any]:
    """The loop behind `Crew.map`: gives shards to idle workers, keeps order and bounds."""
    numbered, due = enumerate(coming), 0
    underway: dict[Any, _Underway] = {}
    finished: dict[int, tuple[bool, Any]] = {}
    try:
        idle = team.start(count)
        while True:
            while idle and len(finished) < _AHEAD * count and (item := next(numbered, None)):
                given = _Underway(idle.pop(), *item)
                underway[team.give(given.worker, given.shard)] = given
            if due in finished:
                good, result = finished.pop(due)
                if not good:
                    raise result
                due += 1
                yield result
                continue
            if not underway:
                return
            for ticket in team.wait(list(underway)):
                given = underway.pop(ticket)
                try:
                    finished[given.number] = team.take(ticket)
                    idle.append(given.worker)
                except _LostError as error:
                    given = given.again(team.replace(given.worker), str(error))
                    underway[team.give(given.worker, given.shard)] = given
    finally:
        team.stop()


class _Processes:
    """Workers on this machine, one shard at a time each; a pipe is worker and ticket in one."""

    def __init__(self, kind: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._serve = kind, arguments
        self._processes: dict[Any, Any] = {}

    def start(self, count: int) -> list[Any]:
        """Workers that wait for a shard."""
        return [self._begin() for _ in range(count)]

    def _begin(self) -> Any:
        context = multiprocessing.get_context("spawn")  # the caller may have threads
        ours, theirs = context.Pipe()
        with theirs:
            process = context.Process(target=_serve, args=(theirs, *self._serve), daemon=True)
            process.start()
        self._processes[ours] = process
        return ours

    def give(self, worker: Any, shard: Any) -> Any:
        """Send a shard; its ticket."""
        with suppress(BrokenPipeError, ConnectionResetError):  # `take` finds that it is lost
            worker.send(shard)
        return worker

    def wait(self, tickets: list[Any]) -> Collection[Any]:
        """The tickets that have an answer, at least one."""
        return connection.wait(tickets)

    def take(self, ticket: Any) -> tuple[bool, Any]:
        """Whether it went well, and the result or the exception."""
        try:
            answer: tuple[bool, Any] = ticket.recv()
        except (EOFError, ConnectionResetError):
            process = self._processes[ticket]
            process.join()
            raise _LostError(f"exit code {process.exitcode}") from None
        return answer

    def replace(self, worker: Any) -> Any:
        """Another worker for one that was lost."""
        del self._processes[worker]
        worker.close()
        return self._begin()

    def stop(self) -> None:
        """End all workers, whatever they do."""
        for line, process in self._processes.items():
            process.kill()
            process.join()
            line.close()
        self._processes.clear()


def _serve(line: connection.Connection, kind: Callable[..., Any], arguments: Any) -> None:
    """A worker process: answers one shard after another, and ends when the parent has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the parent ends it
    parent = multiprocessing.parent_process()
    if parent is not None:  # one that was killed ends nobody
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()
    worker = kind(*arguments)
    with suppress(EOFError, OSError):  # of a pipe whose other end has ended
        while True:
            line.send(_answer(worker, line.recv()))


def _answer(worker: Worker[Any, Any], shard: Any) -> tuple[bool, Any]:
    try:
        return True, worker.work(shard)
    except Exception as error:
        if not isinstance(error, ImlError):
            error.add_note(traceback.format_exc())  # which does not survive the pipe
        return False, error


def _follow(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


class _Cluster:
    """Workers on a Ray cluster; a lost one is replaced, and its shards tried again, by Ray."""

    def __init__(
        self, kind: Callable[..., Any], arguments: Any, threads: int, gpu: bool, address: str
    ) -> None:
        self._ray = _connect(address)
        have = self._ray.cluster_resources()
        gpus, cpus = int(have.get("GPU", 0)) if gpu else 0, int(have.get("CPU", 0))
        self.count = gpus or cpus // threads
        if not self.count:
            raise InputError(
                f"the cluster has {cpus} cores, one worker needs {threads}", where=ADDRESS
            )
        self._remote = self._ray.remote(
            num_cpus=threads,
            num_gpus=1 if gpus else 0,
            max_restarts=-1,
            max_task_retries=1,  # photos that kill their worker end the run
        )(kind)
        # Held here, since a worker that takes a lost one's place gets them again.
        self._arguments = [self._ray.put(argument) for argument in arguments]

    @cached_property
    def _actors(self) -> list[Any]:
        return [self._remote.remote(*self._arguments) for _ in range(self.count)]

    def identity(self) -> Any:
        """What all nodes' results depend on; raises CheckError where they differ."""
        asked = [actor.identity.remote() for actor in self._actors]
        found = [self._get(ticket) for ticket in asked]
        if any(identity != found[0] for identity in found):
            raise CheckError(
                "the nodes differ in what results depend on (hardware, code or packages)",
                where=ADDRESS,
                hint="use nodes of one kind",
            )
        return found[0]

    def start(self, _: int) -> list[Any]:
        """Workers that wait for a shard, each as often as it may have one."""
        self.identity()
        return self._actors * _AHEAD

    def give(self, worker: Any, shard: Any) -> Any:
        """Send a shard; its ticket."""
        return worker.work.remote(shard)

    def wait(self, tickets: list[Any]) -> Collection[Any]:
        """The tickets that have an answer, at least one."""
        return self._ray.wait(tickets)[0]

    def take(self, ticket: Any) -> tuple[bool, Any]:
        """Whether it went well, and the result or the exception."""
        try:
            return True, self._get(ticket)
        except Exception as error:
            return False, error

    def replace(self, worker: Any) -> Any:
        """Ray does."""
        return worker

    def stop(self) -> None:
        """End all workers, whatever they do."""
        for actor in self.__dict__.pop("_actors", []):
            self._ray.kill(actor)

    def _get(self, ticket: Any) -> Any:
        """What a worker answers; its expected failures as they are."""
        try:
            return self._ray.get(ticket)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ImlError):
                raise error.cause from None
            raise
        except self._ray.exceptions.RayError as error:
            reason = str(error).strip().partition("\n")[0]
            raise CheckError(
                f"the cluster failed ({reason})",
                where=ADDRESS,
                hint="run the same command again, finished photos are kept",
            ) from None


def _connect(address: str) -> Any:
    """The module ray, connected."""
    try:
        import ray
    except ImportError:
        raise InputError(
            "Ray is not installed", where=ADDRESS, hint="pip install 'boxpromptiml[ray]'"
        ) from None
    _require(address)
    try:
        ray.init(
            address, ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise _silent(address, reason) from None
    return ray


def _require(address: str) -> None:
    """One quick question first: Ray itself asks for minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon or not port.isdecimal():  # `auto` and `local`
        return
    try:
        socket.create_connection((host, int(port)), timeout=_WAIT).close()
    except (OSError, OverflowError) as error:
        raise _silent(address, str(error)) from None


def _silent(address: str, reason: str) -> InputError:
    return InputError(
        f"no Ray cluster answers ({reason})",
        where=f"{ADDRESS}={address}",
        hint=f"start it, or unset {ADDRESS} to work on this machine",
    )
