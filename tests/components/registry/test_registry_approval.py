"""A person's yes: recorded, re-checked against what was judged, completed after a kill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from registry_support import BY_PEOPLE, RULES, evidence

from components.core.errors import CheckError, InputError
from components.core.params import Gates, Promotion
from components.registry import chain, promotion
from components.registry.gates import ALARM_GATE, COUNTS, F1_GATE
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


def overruled(registry: Registry, version: int = 3) -> chain.Row:
    return approve(registry, version, BY_PEOPLE, actor="bob", reason="seen by hand", overrule=True)


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


def test_four_eyes_see_a_version_before_it_is_champion(waiting) -> None:
    registry, _ = waiting
    strict = BY_PEOPLE.model_copy(update={"four_eyes": True})
    before = events(registry)
    with pytest.raises(CheckError) as caught:
        approve(registry, 3, strict, actor="ann", reason="mine is the best")
    assert "ann trained version 3 of m; another account must approve it" in caught.value.line()
    assert events(registry) == before
    assert approve(registry, 3, strict, actor="bob", reason="looked at it").actor == "bob"
    # It holds for promotions alone: whoever is there takes a bad champion back.
    assert rollback(registry, 2, actor="ann", reason="false alarms").version == 2


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


WHY = "m/2: student.json was changed"


@pytest.mark.parametrize("rules", [BY_PEOPLE, RULES], ids=["approve", "auto"])
def test_a_version_that_could_not_be_compared_is_rejected_and_may_be_overruled(
    two: Registry, make_package: Make, rules: Promotion
) -> None:
    version = register(two, make_package("c"), clean=True, actor="ann")
    found = evidence(2, comparison=None, incomparable=WHY)
    decision = decide_and_promote(two, version, found, rules, actor="ann")
    failed = [gate for gate in decision.gates if not gate.passed]
    assert [gate.name for gate in failed] == [F1_GATE, ALARM_GATE]
    assert {gate.value for gate in failed} == {chain.NOT_COMPARABLE}
    assert all(WHY in gate.reason for gate in failed)
    assert decision.sentence.count(WHY) == 1
    assert "iml model approve m/3 --by NAME --reason WHY --overrule" in decision.sentence
    assert (events(two)[-1], two.store.alias("m")) == ("rejected", 2)
    with pytest.raises(CheckError, match=r"was rejected: .*--overrule"):
        yes(two)
    row = overruled(two)
    assert (row.event, row.version, row.previous_champion, row.actor) == ("promoted", 3, 2, "bob")
    approved = two.rows()[-2]
    assert approved.facts()[chain.OVERRULED] == [F1_GATE, ALARM_GATE]
    state = states(two.rows())[-1]
    assert (state.status, state.overruled) == ("champion", [F1_GATE, ALARM_GATE])
    before = events(two)
    again = decide_and_promote(two, version, evidence(3), rules, actor="ann")
    assert again.promoted  # the next run leaves it
    assert events(two) == before
    rollback(two, 2, actor="bob", reason="because")
    with pytest.raises(InputError, match="use `iml model rollback`"):
        overruled(two)


@pytest.mark.parametrize("changes", [{"f1": 0.1}, {"parity": None}])
def test_nothing_but_a_missing_comparison_is_overruled(
    two: Registry, make_package: Make, changes: dict[str, Any]
) -> None:
    version = register(two, make_package("c"), clean=True, actor="ann")
    decision = decide(two, version, **{"comparison": None, "incomparable": WHY, **changes})
    assert "--overrule" not in decision.sentence
    with pytest.raises(CheckError, match=r"was rejected: .*see `iml model show`"):
        overruled(two)
    assert two.ledger.champion("m") == 2


def test_a_new_gate_that_is_switched_off_changes_nothing(
    two: Registry, make_package: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = register(two, make_package("c"), clean=True, actor="ann")
    dump = Gates.model_dump

    def then(self: Gates, **how: Any) -> dict[str, Any]:
        return {name: value for name, value in dump(self, **how).items() if name not in COUNTS}

    with monkeypatch.context() as patch:
        patch.setattr(Gates, "model_dump", then)
        decide(two, version)
    assert "min_photos" not in two.rows()[-1].facts()["thresholds"]
    before = events(two)
    assert decide(two, version).awaiting
    assert events(two) == before
    assert yes(two).version == 3
