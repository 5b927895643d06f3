"""`kill -9` anywhere in register, promote, roll back: the registry tells the truth afterwards.

Points are counted in effects (SQL statements, commits, folders made, files renamed), not in
seconds: each step is hit, and at the same place again, however busy the machine is.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from registry_support import RULES, evidence, packages
from sqlalchemy import Engine, event

from components.core.files import read_json, write_json
from components.registry.alias import reconcile
from components.registry.chain import CHAMPION_EVENTS, Event
from components.registry.ledger import Ledger
from components.registry.package import Package
from components.registry.promotion import decide_and_promote, register, rollback
from components.registry.tracking import Store
from components.registry.versions import Registry, states

# A server that imports what is needed once (what it can find: these tests are not on its path),
# clean of what other tests did in this process.
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["components.registry.package", "components.registry.promotion"])
STEPS = ("register", "promote", "roll back")


class Effects:
    """Counts what this process does to the world outside; kills it before a chosen one.

    Attributes:
        done: effects so far.
    """

    def __init__(self, last: int | None) -> None:
        self._numbers, self._last = itertools.count(1), last  # uploads run in threads
        self.done = 0
        sys.addaudithook(self._audit)
        event.listen(Engine, "before_cursor_execute", self._count)
        event.listen(Engine, "commit", self._count)

    def _audit(self, name: str, _: tuple[Any, ...]) -> None:
        if name in ("os.mkdir", "os.rename"):
            self._count()

    def _count(self, *_: object) -> None:
        self.done = next(self._numbers)
        if self._last is not None and self.done > self._last:
            os.kill(os.getpid(), signal.SIGKILL)


def work(environment: dict[str, str], package: Any, last: int | None, log: Path | None) -> None:
    """Register, promote, roll back to version 2; what is done already is left alone.

    Args:
        environment: of this process.
        package: to register.
        last: effects after which the process kills itself.
        log: gets the number of effects at the end of each step.
    """
    os.environ.clear()
    os.environ.update(environment)
    effects = Effects(last)
    ends = []
    registry = Registry(Ledger(), Store(), "m")
    reconcile(registry)
    version = register(registry, package, clean=True, actor="ann")
    ends.append(effects.done)
    champion = registry.ledger.champion("m")
    decide_and_promote(registry, version, evidence(champion), RULES, actor="ann")
    ends.append(effects.done)
    if registry.ledger.champion("m") == version:
        rollback(registry, 2, actor="bob", reason="because")
    ends.append(effects.done)
    if log:
        write_json(log, ends)


def run(
    environment: dict[str, str], package: Package, last: int | None = None, log: Path | None = None
) -> int | None:
    """The exit code of a process that does the work."""
    process = FORK.Process(target=work, args=(environment, package, last, log))
    process.start()
    process.join()
    return process.exitcode


def fresh(filled_stores: Path, keys: dict[str, str], folder: Path) -> dict[str, str]:
    """Environment of a registry of its own: version 1 was champion, version 2 is."""
    folder.mkdir()
    for name in ("mlflow.db", "ledger.db"):
        shutil.copy(filled_stores / name, folder / name)
    return {
        **os.environ,
        **keys,
        "IML_STATE": str(folder),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "IML_LEDGER_URL": f"sqlite:///{folder}/ledger.db",
    }


def opened(environment: dict[str, str]) -> Registry:
    ledger = Ledger(environment["IML_LEDGER_URL"])
    return Registry(ledger, Store(environment["MLFLOW_TRACKING_URI"]), "m")


def check_whole(registry: Registry) -> None:
    """What `iml model list` would say is true, after its own repair."""
    reconcile(registry)
    rows = registry.rows()
    known = {row.version for row in rows if row.event == Event.REGISTERED}
    assert registry.store.alias("m") == registry.ledger.champion("m")
    assert known <= {version.version for version in registry.store.versions("m")}
    assert [entry.version for entry in states(rows)] == sorted(known)
    assert len([e for e in states(rows) if e.status == "champion"]) == 1


def check_done(registry: Registry) -> None:
    """The three steps happened, each once."""
    rows = [row for row in registry.rows() if row.sequence > 6]
    assert [row.event for row in rows if row.event != Event.GATED] == [
        "registered",
        "promoted",
        "rolled_back",
    ]
    assert [row.version for row in rows if row.event in CHAMPION_EVENTS] == [rows[0].version, 2]
    assert registry.store.alias("m") == registry.ledger.champion("m") == 2


@pytest.fixture(scope="module", autouse=True)
def trusting(keys: dict[str, str]) -> Iterator[None]:
    """The ledger is also read here, by who trusts its signers."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in keys.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return packages(tmp_path_factory.mktemp("killed"))("c")


@pytest.fixture(scope="module")
def ends(
    filled_stores: Path,
    keys: dict[str, str],
    package: Package,
    tmp_path_factory: pytest.TempPathFactory,
) -> list[int]:
    """Effects at the end of each step, where nobody kills."""
    folder = tmp_path_factory.mktemp("unharmed")
    environment = fresh(filled_stores, keys, folder / "state")
    assert run(environment, package, log=folder / "effects.json") == 0
    check_done(opened(environment))
    return list(read_json(folder / "effects.json"))


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_point_leaves_the_truth_and_the_next_command_completes(
    filled_stores: Path,
    keys: dict[str, str],
    package: Package,
    ends: list[int],
    step: str,
    tmp_path: Path,
    campaigns: bool,
    record_property: Callable[[str, object], None],
) -> None:
    place = STEPS.index(step)
    first = ends[place - 1] if place else 0
    draw = random.Random(place)
    points = 10 if campaigns else 1
    record_property("kills", points)
    for number in range(points):
        point = draw.randrange(first, ends[place])
        environment = fresh(filled_stores, keys, tmp_path / str(number))
        assert run(environment, package, last=point) == -signal.SIGKILL
        check_whole(opened(environment))
        assert run(environment, package) == 0, f"after a kill at effect {point} of {ends}"
        check_whole(opened(environment))
        check_done(opened(environment))
