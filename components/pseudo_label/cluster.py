"""Groups of photos through a Ray cluster, where the environment names one.

The driver reads and writes every file, so the nodes need no shared disk; they need the project
installed. One actor a GPU, or as many as the cluster's cores allow. A lost worker costs its groups
a second try on the actor's successor, and changes no mask: see `components.pseudo_label.workers`. A
group whose second try is lost as well ends the run.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from components.core.errors import CheckError, ImlError, InputError
from components.core.params import PseudoLabel
from components.pseudo_label import registry
from components.pseudo_label.cache import Cache, Entry
from components.pseudo_label.candidates import Identity, Teacher
from components.pseudo_label.workers import Done, Job, entries, groups, keep

ADDRESS = "RAY_ADDRESS"
_AHEAD = 2  # groups underway per actor
_WAIT = 5  # seconds for a cluster to answer


class Labeller:
    """A teacher on a node of the cluster, built at the first question, so that it can complain."""

    def __init__(self, params: PseudoLabel) -> None:
        self._params = params

    @cached_property
    def _teacher(self) -> Teacher:
        return registry.build(self._params)

    def identity(self) -> Identity:
        """What this node's masks depend on: nodes with other hardware may round otherwise."""
        return registry.identity(self._teacher)

    def label(self, group: list[tuple[Job, bytes]]) -> list[Entry]:
        """The finished pseudo-masks of a group of photo files."""
        jobs = [job for job, _ in group]
        return list(entries(jobs, [job.decode(data) for job, data in group], self._teacher))


class Cluster:
    """The actors of one labelling.

    Raises:
        InputError: Ray is not installed, no cluster answers, or the teacher cannot be built there.
        CheckError: the nodes would not give the same masks.
    """

    def __init__(self, params: PseudoLabel, address: str) -> None:
        self._ray = _connect(address)
        have = self._ray.cluster_resources()
        gpus, cpus = int(have.get("GPU", 0)), int(have.get("CPU", 0))
        count = gpus or cpus // params.threads
        if not count:
            raise InputError(
                f"the cluster has {cpus} cores, one worker needs {params.threads}", where=ADDRESS
            )
        remote = self._ray.remote(
            num_cpus=params.threads,
            num_gpus=1 if gpus else 0,
            max_restarts=-1,
            max_task_retries=1,  # a photo that kills its worker ends the run
        )(Labeller)
        self._actors = [remote.remote(params) for _ in range(count)]
        found = self._get([actor.identity.remote() for actor in self._actors])
        if any(identity != found[0] for identity in found):
            raise CheckError(
                "the nodes differ in what their masks depend on (hardware, code or packages)",
                where=ADDRESS,
                hint="use nodes of one kind",
            )
        self.identity = found[0]

    def run(self, jobs: list[Job], cache: Cache) -> Iterator[Done]:
        """As `components.pseudo_label.workers.Local.run`."""
        coming = groups(jobs)
        idle = self._actors * _AHEAD
        underway: dict[Any, tuple[Any, list[Job]]] = {}
        while True:
            while idle and (group := next(coming, None)):
                actor = idle.pop()
                asked = actor.label.remote([(job, job.read()) for job in group])
                underway[asked] = actor, group
            if not underway:
                return
            ready, _ = self._ray.wait(list(underway))
            actor, group = underway.pop(ready[0])
            idle.append(actor)
            yield from keep(group, self._get(ready[0]), cache)

    def _get(self, asked: Any) -> Any:
        """What the actors answer; their expected failures as they are."""
        try:
            return self._ray.get(asked)
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
