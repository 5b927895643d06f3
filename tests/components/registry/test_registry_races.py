"""Separate processes that promote at the same moment: exactly one wins, on either database."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.registry import promotion
from components.registry.chain import Event
from components.registry.ledger import Entry, Ledger
from components.registry.tracking import Store
from components.registry.versions import Registry

ROOT = Path(__file__).parents[3]
Make = Callable[..., Any]
Tell = Callable[[str, object], None]

APPENDER = """
import sys, time
from components.core.errors import CheckError
from components.registry.chain import Event
from components.registry.ledger import Entry, Ledger

url, me, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for number in range(rounds):
    sys.stdin.readline()
    try:
        Ledger(url).append(Entry(f"race{number}", Event.PROMOTED, me, f"p{me}", "race", {}))
        print("won", flush=True)
    except CheckError as error:
        print("lost" if "gated against champion none" in error.line() else error, flush=True)
"""


def test_of_promotions_that_race_exactly_one_wins(
    ledger_url: str, campaigns: bool, record_property: Tell
) -> None:
    rounds, racers = (100 if campaigns else 5), 4
    record_property("races of four", rounds)
    command = [sys.executable, "-c", APPENDER, ledger_url]
    processes = [
        subprocess.Popen(
            [*command, str(number), str(rounds)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for number in range(1, racers + 1)
    ]
    ledger = Ledger(ledger_url)
    try:
        for number in range(rounds):
            for racer in range(1, racers + 1):
                ledger.append(Entry(f"race{number}", Event.REGISTERED, racer, "ann", "made", {}))
            for process in processes:
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
            said = [process.stdout.readline().strip() for process in processes if process.stdout]
            assert sorted(said) == ["lost"] * (racers - 1) + ["won"]
            rows = ledger.verify(f"race{number}")
            assert [row.version for row in rows[racers:]] == [said.index("won") + 1]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


LEDGER = """
import os, sys
from components.registry.ledger import Ledger
print("ready", flush=True)
sys.stdin.readline()
print(Ledger(os.environ["IML_LEDGER_URL"]).rows("m"), flush=True)
"""
REGISTRY = """
import sys
from components.registry.versions import Registry
print("ready", flush=True)
sys.stdin.readline()
print(Registry.open("m").rows(), flush=True)
"""


def all_at_once(code: str, **environment: str) -> list[str]:
    """The last lines of four processes of this code that were told to go at the same moment."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [process.communicate()[0].strip() for process in processes]


def test_processes_that_migrate_a_new_ledger_at_once_all_succeed(ledger_url: str) -> None:
    assert all_at_once(LEDGER, IML_LEDGER_URL=ledger_url) == ["[]"] * 4


def test_processes_that_make_a_new_folders_stores_at_once_all_succeed(tmp_path: Path) -> None:
    fresh = {"IML_STATE": str(tmp_path), "MLFLOW_TRACKING_URI": "", "IML_LEDGER_URL": ""}
    assert all_at_once(REGISTRY, **fresh) == ["[]"] * 4
    left = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["ledger.db", "mlflow.db"]


def test_a_store_whose_making_was_cut_off_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with monkeypatch.context() as patch:
        patch.setattr("mlflow.store.db.utils._upgrade_db", lambda engine: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            Store(uri)
    assert (tmp_path / "mlflow.db").stat().st_size == 0
    assert Store(uri).versions("m") == []


PROMOTER = """
import sys
from components.core.errors import CheckError
from components.registry.promotion import decide_and_promote
from components.registry.versions import Registry
from registry_support import RULES, evidence

me = int(sys.argv[1])
registry = Registry.open("m")
print("ready", flush=True)
for line in sys.stdin:
    number, champion = line.split()
    champion = None if champion == "None" else int(champion)
    found = evidence(champion, hashes={"round": number})
    try:
        decide_and_promote(registry, me, found, RULES, actor=f"p{me}")
        print("won", flush=True)
    except CheckError as error:
        print("lost" if "the champion is now" in error.line() else error, flush=True)
"""


def test_of_two_promotions_that_race_one_wins_and_the_alias_follows(
    addresses: dict[str, str],
    ledger_url: str,
    make_package: Make,
    campaigns: bool,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Tell,
) -> None:
    rounds = 100 if campaigns else 5
    record_property("races of two with MLflow's alias", rounds)
    monkeypatch.setenv("IML_LEDGER_URL", ledger_url)
    registry = Registry.open("m")
    racers = {}
    for number, content in enumerate("abc", 1):
        assert (
            promotion.register(registry, make_package(content), clean=True, actor="ann") == number
        )
        racers[number] = subprocess.Popen(
            [sys.executable, "-c", PROMOTER, str(number)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}"},
        )
    try:
        for process in racers.values():
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for number in range(rounds):
            champion = registry.ledger.champion("m")
            said = {}
            pair = [v for v in racers if v != champion][:2]
            for version in pair:
                print(number, champion, file=racers[version].stdin, flush=True)
            for version in pair:
                said[version] = racers[version].stdout.readline().strip()  # type: ignore[union-attr]
            assert sorted(said.values()) == ["lost", "won"]
            winner = next(version for version, word in said.items() if word == "won")
            rows = registry.rows()
            promoted = [row for row in rows if row.event == Event.PROMOTED]
            assert len(promoted) == number + 1
            assert promoted[-1].version == winner == registry.store.alias("m")
    finally:
        for process in racers.values():
            process.kill()
            process.communicate()
