"""Which versions the weekly audit looks at."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.core.errors import CheckError
from components.registry.chain import Event
from components.registry.ledger import Entry, Ledger
from flows.audit import choose


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """Six registered versions, the fourth of them champion."""
    monkeypatch.setenv("IML_LEDGER_URL", f"sqlite:///{tmp_path}/ledger.db")
    made = Ledger()
    for version in range(1, 7):
        made.append(Entry("m", Event.REGISTERED, version, "ann", "made", {}))
    made.append(Entry("m", Event.PROMOTED, 4, "ann", "passed", {}))
    return made


def test_the_champion_always_and_some_others(ledger: Ledger) -> None:
    drawn = [choose("m", 2, seed) for seed in range(40)]
    assert all(chosen[0] == 4 and len(chosen) == 3 for chosen in drawn)
    assert {version for chosen in drawn for version in chosen[1:]} == {1, 2, 3, 5, 6}
    assert choose("m", 2, 1) == choose("m", 2, 1)


def test_a_small_registry_is_audited_whole(ledger: Ledger) -> None:
    assert choose("m", 99, 1) == [4, 1, 2, 3, 5, 6]


def test_nothing_to_audit_is_one_line(ledger: Ledger) -> None:
    with pytest.raises(CheckError, match="no version to audit"):
        choose("other", 1, 1)
