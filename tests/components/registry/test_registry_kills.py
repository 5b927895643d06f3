"""`kill -9` anywhere in register, promote, roll back: the registry tells the truth afterwards."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from registry_support import RULES, evidence

from components.registry.chain import CROWNING, Event
from components.registry.ledger import Ledger
from components.registry.projection import reconcile
from components.registry.promotion import decide_and_promote
from components.registry.registration import register
from components.registry.rollback import rollback
from components.registry.tracking import Store
from components.registry.versions import Registry, standings

Make = Callable[..., Any]
# A server that imports what is needed once, clean of what other tests did in this process.
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["registry_support", "components.registry.rollback"])


def work(environment: dict[str, str], package: Any) -> None:
    """Register, promote, roll back to version 2; what is done already is left alone."""
    os.environ.clear()
    os.environ.update(environment)
    registry = Registry(Ledger(), Store(), "m")
    reconcile(registry)
    version = register(registry, package, clean=True, actor="ann")
    champion = registry.ledger.champion("m")
    decide_and_promote(registry, version, evidence(champion), RULES, actor="ann")
    if registry.ledger.champion("m") == version:
        rollback(registry, 2, actor="bob", reason="because")


def start(package: Any) -> Any:
    process = FORK.Process(target=work, args=(dict(os.environ), package))
    process.start()
    return process


def fresh(filled_stores: Path, tmp_path: Path, number: int, patch: pytest.MonkeyPatch) -> None:
    """A registry of its own: version 1 was champion, version 2 is."""
    state = tmp_path / f"state{number}"
    state.mkdir()
    for name in ("mlflow.db", "ledger.db"):
        shutil.copy(filled_stores / name, state / name)
    patch.setenv("IML_STATE", str(state))
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{state}/mlflow.db")
    patch.setenv("IML_LEDGER_URL", f"sqlite:///{state}/ledger.db")


def check_whole(registry: Registry) -> None:
    """What `iml model list` would say is true, after its own repair."""
    reconcile(registry)
    rows = registry.rows()
    known = {row.version for row in rows if row.event == Event.REGISTERED}
    assert registry.store.alias("m") == registry.ledger.champion("m")
    assert known <= {version.version for version in registry.store.versions("m")}
    assert [entry.version for entry in standings(rows)] == sorted(known)
    assert len([e for e in standings(rows) if e.status == "champion"]) == 1


def check_done(registry: Registry) -> None:
    """The three steps happened, each once."""
    rows = [row for row in registry.rows() if row.sequence > 6]
    assert [row.event for row in rows if row.event != Event.GATED] == [
        "registered",
        "promoted",
        "rolled_back",
    ]
    assert [row.version for row in rows if row.event in CROWNING] == [rows[0].version, 2]
    assert registry.store.alias("m") == registry.ledger.champion("m") == 2


def test_a_kill_at_any_point_leaves_the_truth_and_the_next_command_completes(
    addresses: dict[str, str],
    filled_stores: Path,
    make_package: Make,
    tmp_path: Path,
    campaigns: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not campaigns:
        pytest.skip("whole registrations killed and repeated, over a minute: with --campaigns")
    package = make_package("c")
    package.hashes()
    fresh(filled_stores, tmp_path, 0, monkeypatch)
    first = FORK.Process(target=int)  # the server starts with it
    first.start()
    first.join(120)
    began = time.monotonic()
    process = start(package)
    process.join(120)
    seconds = time.monotonic() - began
    assert process.exitcode == 0
    check_done(Registry(Ledger(), Store(), "m"))
    draw = random.Random(5)
    reached = set()
    for number in range(1, 31):
        fresh(filled_stores, tmp_path, number, monkeypatch)
        process = start(package)
        time.sleep(draw.uniform(0, seconds))
        os.kill(process.pid, signal.SIGKILL)
        process.join(30)
        registry = Registry(Ledger(), Store(), "m")
        reached.add(len(registry.rows()))
        check_whole(registry)
        process = start(package)
        process.join(120)
        assert process.exitcode == 0
        check_whole(registry)
        check_done(registry)
    assert len(reached) >= 3, "the kills all fell on the same step"
