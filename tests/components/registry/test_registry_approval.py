"""A person's yes: recorded, re-checked against what was judged, completed after a kill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from registry_support import BY_PEOPLE, evidence

from components.core.errors import CheckError, InputError
from components.registry import chain, promotion
from components.registry.promotion import Decision, approve, decide_and_promote, register, rollback
from components.registry.versions import Registry, states

Make = Callable[..., Any]


@pytest.fixture
def waiting(two: Registry, make_package: Make) -> tuple[Registry, Decision]:
    """Version 2 is champion, version 3 waits."""
    version = register(two, make_package("c"), clean=True, actor="ann")
    return two, decide(two, version)


def decide(registry: Registry, version: int, **changes: Any) -> Decision:
    found = evidence(chain.champion(registry.rows()), **changes)
    return decide_and_promote(registry, version, found, BY_PEOPLE, actor="ann")


def yes(registry: Registry, version: int = 3) -> chain.Row:
    return approve(registry, version, BY_PEOPLE, actor="bob", reason="fewer false alarms")


def events(registry: Registry) -> list[str]:
    return [row.event for row in registry.rows()]


def test_passing_gates_wait_for_a_person(waiting) -> None:
    registry, decision = waiting
    assert decision.awaiting
    assert not decision.promoted
    assert "iml model approve m/3" in decision.sentence
    assert (registry.store.alias("m"), states(registry.rows())[-1].status) == (
        2,
        "awaiting approval",
    )
    before = events(registry)
    assert decide(registry, 3).awaiting  # the next scheduled run adds nothing
    assert events(registry) == before


def test_an_approval_promotes_and_says_who_and_why(waiting) -> None:
    registry, _ = waiting
    row = yes(registry)
    assert (row.version, row.previous_champion, row.actor) == (3, 2, "bob")
    assert row.reason == "approved: fewer false alarms"
    gated, approved = registry.rows()[-3:-1]
    assert row.facts()["approved"] == approved.hash
    assert approved.facts()["gated"] == gated.hash
    assert events(registry)[-3:] == ["gated", "approved", "promoted"]
    assert registry.store.alias("m") == 3
    assert not decide(registry, 3).awaiting
    with pytest.raises(InputError, match="is already the champion"):
        yes(registry)
    rollback(registry, 2, actor="bob", reason="because")
    with pytest.raises(InputError, match="use `iml model rollback`"):
        yes(registry)


def test_an_interrupted_approval_is_completed(waiting, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, _ = waiting
    append = registry.ledger.append

    def killed(entry: Any) -> chain.Row:
        if entry.event == chain.Event.PROMOTED:
            raise KeyboardInterrupt
        return append(entry)

    with monkeypatch.context() as patch:
        patch.setattr(type(registry.ledger), "append", lambda _, entry: killed(entry))
        with pytest.raises(KeyboardInterrupt):
            yes(registry)
    assert events(registry)[-1] == "approved"
    assert states(registry.rows())[-1].status == "awaiting approval"
    row = approve(registry, 3, BY_PEOPLE, actor="eve", reason="again")
    assert (row.actor, row.reason) == ("bob", "approved: fewer false alarms")
    assert events(registry)[-3:] == ["gated", "approved", "promoted"]


def test_what_changed_since_it_was_judged_stops_an_approval(
    own_two: Registry, make_package: Make, tmp_path: Path
) -> None:
    assert register(own_two, make_package("c"), clean=True, actor="ann") == 3
    decide(own_two, 3)
    stricter = BY_PEOPLE.model_copy(
        update={"gates": BY_PEOPLE.gates.model_copy(update={"min_f1": 0.4})}
    )
    with pytest.raises(CheckError, match=r"params\.yaml: the gates changed"):
        approve(own_two, 3, stricter, actor="bob", reason="fine")
    for path in (tmp_path / "state/mlflow/artifacts").rglob("student.json"):
        if path.read_text().startswith("c "):
            path.write_text("other")
    with pytest.raises(CheckError, match=r"artifacts/student\.json was changed"):
        yes(own_two)
    rollback(own_two, 1, actor="bob", reason="because")
    with pytest.raises(CheckError, match="gated against champion 2, but the champion is now 1"):
        yes(own_two)
    assert own_two.ledger.champion("m") == own_two.store.alias("m") == 1


def test_only_what_passed_can_be_approved(two: Registry, make_package: Make) -> None:
    register(two, make_package("c"), clean=True, actor="ann")
    with pytest.raises(InputError, match="is not awaiting approval"):
        yes(two)
    assert not decide(two, 3, f1=0.1).awaiting
    with pytest.raises(CheckError, match="was rejected: min_f1"):
        yes(two)
    with pytest.raises(InputError, match="no registered version 9"):
        yes(two, 9)
    decide(two, 3)
    with pytest.raises(InputError, match="reason"):
        approve(two, 3, BY_PEOPLE, actor="bob", reason=" ")


def test_of_two_approvals_one_is_refused(waiting, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, _ = waiting

    check = promotion.verify_download

    def meanwhile(*_: object) -> None:
        monkeypatch.setattr(promotion, "verify_download", check)
        yes(registry)

    monkeypatch.setattr(promotion, "verify_download", meanwhile)
    with pytest.raises(CheckError, match="has moved on"):
        yes(registry)
    assert events(registry).count("promoted") == 3
