"""The same student with the same evidence is the same version, whatever dvc.lock says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from registry_support import BY_PEOPLE, RULES, evidence

from components.core.files import canonical_json
from components.registry import chain
from components.registry.alias import reconcile
from components.registry.chain import Event
from components.registry.gates import COMPARISONS
from components.registry.ledger import Entry
from components.registry.package import Package
from components.registry.promotion import (
    decide_and_promote,
    register,
    rollback,
)
from components.registry.versions import Registry, registration

Make = Callable[..., Package]


def add(registry: Registry, package: Package) -> int:
    return register(registry, package, clean=package.record["git"]["clean"], actor="ann")


def twins(registry: Registry, version: int) -> list[int]:
    return registration(registry.rows(), version).facts()["twins"]


def contest(gates: list[Any]) -> set[tuple[object, bool]]:
    """Value and verdict of the comparisons with the champion."""
    return {(gate.value, gate.passed) for gate in gates if gate.name in COMPARISONS}


def test_another_lock_of_the_same_student_confirms_its_version(
    two: Registry, make_package: Make
) -> None:
    for _ in range(2):  # once for each dvc.lock
        assert add(two, make_package("b", lock="a comment")) == 2
    assert add(two, make_package("b")) == 2  # its own dvc.lock needs no confirmation
    (row,) = [row for row in two.rows() if row.event == Event.CONFIRMED]
    package = make_package("b", lock="a comment")
    assert row.version == 2
    assert row.facts() == {
        "commit": "c" * 40,
        "clean": True,
        "dvc_lock_sha256": "a comment",
        "record_sha256": package.record_sha256,
    }
    assert chain.confirmations(two.rows(), 2) == {"a comment"}
    assert two.held() == {1, 2}
    assert str(two.store.ledger_head("m")).startswith(f"{row.sequence}:")
    decision = decide_and_promote(two, 2, evidence(2), RULES, actor="ann")
    assert decision.promoted
    assert chain.problems(two.rows()) == []


def test_other_evidence_makes_another_version(two: Registry, make_package: Make) -> None:
    assert add(two, make_package("b", lock="more test photos", measured="n")) == 3
    assert twins(two, 3) == []


def strip_evidence(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if older code had written the rows, which kept no hashes of the evidence."""
    facts = chain.Row.facts

    def older(row: chain.Row) -> Mapping[str, Any]:
        return {k: v for k, v in facts(row).items() if k not in ("evidence", "twins")}

    monkeypatch.setattr(chain.Row, "facts", older)


def test_the_evidence_of_older_rows_is_in_the_record(
    two: Registry, make_package: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    strip_evidence(two, monkeypatch)
    assert add(two, make_package("b", lock="a comment")) == 2
    assert add(two, make_package("b", lock="more test photos", measured="n")) == 3


def test_of_a_twin_that_is_not_whole_the_identity_decides(
    own_two: Registry, make_package: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    strip_evidence(own_two, monkeypatch)
    for path in (tmp_path / "state/mlflow/artifacts").rglob("lineage/record.json"):
        path.write_bytes(canonical_json({}))
    assert add(own_two, make_package("b")) == 2
    assert add(own_two, make_package("b", lock="a comment")) == 3


def test_a_clean_twin_takes_the_place_of_an_unclean_champion_without_a_contest(
    registry: Registry, make_package: Make
) -> None:
    assert add(registry, make_package(dirty=("notes.py",))) == 1
    assert decide_and_promote(registry, 1, evidence(), RULES, actor="ann").promoted
    assert add(registry, make_package(dirty=("notes.py",), lock="other")) == 1  # none is clean
    assert add(registry, make_package(lock="other")) == 2
    assert twins(registry, 2) == [1]
    found = evidence(1, comparison=None, twin=True)
    decision = decide_and_promote(registry, 2, found, RULES, actor="ann")
    assert contest(decision.gates) == {("same student", True)}
    assert "same student as champion 1" in decision.gates[-1].reason
    assert (decision.promoted, decision.replaced) == (True, 1)
    # An unclean workspace is the clean version's afterwards, and the next run adds nothing.
    assert add(registry, make_package(dirty=("notes.py",))) == 2
    before = registry.rows()
    again = decide_and_promote(registry, 2, evidence(2, comparison=None), RULES, actor="ann")
    assert (again.promoted, again.recorded) == (True, False)
    assert registry.rows() == before


def test_a_person_still_approves_a_clean_twin(registry: Registry, make_package: Make) -> None:
    add(registry, make_package(dirty=("notes.py",)))
    assert decide_and_promote(registry, 1, evidence(), RULES, actor="ann").promoted
    assert add(registry, make_package()) == 2
    found = evidence(1, comparison=None, twin=True)
    decision = decide_and_promote(registry, 2, found, BY_PEOPLE, actor="ann")
    assert (decision.awaiting, decision.champion) == (True, 1)


def test_a_lost_version_is_registered_again(two: Registry, make_package: Make) -> None:
    two.store._client.delete_model_version("m", "2")
    reconcile(two, writing=True)
    assert add(two, make_package("b")) == 3
    assert twins(two, 3) == [2]
    found = evidence(2, comparison=None, twin=True)
    decision = decide_and_promote(two, 3, found, RULES, actor="ann")
    assert (decision.promoted, two.store.alias("m")) == (True, 3)


def test_a_person_s_rollback_from_a_twin_stays(registry: Registry, make_package: Make) -> None:
    add(registry, make_package(dirty=("notes.py",)))
    decide_and_promote(registry, 1, evidence(), RULES, actor="ann")
    add(registry, make_package())
    found = evidence(1, comparison=None, twin=True)
    decide_and_promote(registry, 2, found, RULES, actor="ann")
    rollback(registry, 1, actor="bob", reason="to see what happens")
    assert add(registry, make_package()) == 2
    assert not decide_and_promote(registry, 2, found, RULES, actor="ann").promoted
    assert registry.ledger.champion("m") == 1


def test_a_confirmation_of_what_was_never_registered_is_a_fault(
    registry: Registry, make_package: Make
) -> None:
    add(registry, make_package())
    registry.ledger.append(Entry("m", Event.CONFIRMED, 9, "eve", "made up", {}))
    assert chain.problems(registry.ledger.rows("m")) == [
        "row 2 (confirmed version 9) is of a version that was never registered"
    ]
