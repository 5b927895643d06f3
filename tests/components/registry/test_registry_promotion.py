"""Register, gate, promote, roll back on a real MLflow store: the ledger decides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from registry_support import RULES, rules

from components.core.errors import CheckError, InputError
from components.core.params import Promotion
from components.registry import promotion
from components.registry.alias import reconcile
from components.registry.chain import Event
from components.registry.downloads import fetch
from components.registry.gates import GateEvidence
from components.registry.ledger import Entry, Ledger
from components.registry.package import Package
from components.registry.promotion import Decision, decide_and_promote, rollback
from components.registry.tracking import Store
from components.registry.versions import Registry, states

Make = Callable[..., Any]


def register(registry: Registry, package: Package, clean: bool = True) -> int:
    return promotion.register(registry, package, clean=clean, actor="ann")


def decide(
    registry: Registry, version: int, evidence: GateEvidence, promotion: Promotion = RULES
) -> Decision:
    return decide_and_promote(registry, version, evidence, promotion, actor="ann")


def events(registry: Registry) -> list[tuple[str, int]]:
    return [(row.event, row.version) for row in registry.rows()]


def test_the_first_version_is_promoted_and_the_alias_follows(
    registry: Registry, make_package: Make, make_evidence: Make
) -> None:
    version = register(registry, make_package())
    assert registry.store.alias("m") is None
    decision = decide(registry, version, make_evidence())
    assert decision.promoted
    assert decision.recorded
    assert decision.champion == registry.store.alias("m") == registry.ledger.champion("m") == 1
    assert events(registry) == [("registered", 1), ("gated", 1), ("promoted", 1)]
    gated = registry.rows()[1].facts()
    assert [gate["passed"] for gate in gated["gates"]] == [True] * 10
    assert gated["thresholds"]["min_f1"] == 0.2
    assert registry.rows()[2].facts()["gated"] == registry.rows()[1].hash


def test_a_failed_gate_rejects_and_says_why(
    registry: Registry, make_package: Make, make_evidence: Make
) -> None:
    version = register(registry, make_package())
    decision = decide(registry, version, make_evidence(f1=None))
    assert not decision.promoted
    assert decision.champion is None
    assert "min_f1: no finite F1" in decision.sentence
    assert events(registry) == [("registered", 1), ("gated", 1), ("rejected", 1)]
    assert "min_f1" in registry.rows()[-1].reason
    assert registry.store.alias("m") is None


def test_the_same_evidence_is_judged_once(
    two: Registry, make_package: Make, make_evidence: Make
) -> None:
    before = events(two)
    assert register(two, make_package("b")) == 2
    again = decide(two, 2, make_evidence(champion=2, comparison=None))
    assert again.promoted
    assert not again.recorded
    assert register(two, make_package("c")) == 3
    assert not decide(two, 3, make_evidence(champion=2, f1=0.1)).promoted
    rejected = events(two)
    assert not decide(two, 3, make_evidence(champion=2, f1=0.1)).recorded
    assert events(two) == rejected == [*before, ("registered", 3), ("gated", 3), ("rejected", 3)]


def test_another_threshold_gates_the_same_version_again(
    registry: Registry, make_package: Make, make_evidence: Make
) -> None:
    package = make_package()
    strict = rules(min_f1=0.9)
    assert not decide(registry, register(registry, package), make_evidence(), strict).promoted
    # Thresholds stand in params.yaml, so changing them makes the workspace unclean.
    assert decide(registry, register(registry, package, clean=False), make_evidence()).promoted
    assert events(registry)[3:] == [("gated", 1), ("promoted", 1)]
    assert [version.version for version in registry.store.versions("m")] == [1]


def test_a_champion_that_no_longer_passes_stays_and_is_named(
    two: Registry, make_evidence: Make
) -> None:
    strict = rules(min_f1=0.9)
    decision = decide(two, 2, make_evidence(champion=2), strict)
    assert decision.champion == 2
    assert "no longer passes" in decision.sentence
    assert events(two)[-2:] == [("gated", 2), ("rejected", 2)]


def test_a_worse_version_does_not_replace_the_champion(
    two: Registry, make_package: Make, make_evidence: Make
) -> None:
    version = register(two, make_package("c"))
    decision = decide(two, version, make_evidence(champion=2, f1=0.47))
    assert not decision.promoted
    assert two.store.alias("m") == 2
    assert [gate.name for gate in decision.gates if not gate.passed] == ["not_worse_than_champion"]


def test_evidence_against_another_champion_is_refused(
    two: Registry, make_package: Make, make_evidence: Make
) -> None:
    version = register(two, make_package("c"))
    with pytest.raises(CheckError, match="the champion is now 2"):
        decide(two, version, make_evidence(champion=1))
    with pytest.raises(InputError, match="no registered version 9"):
        decide(two, 9, make_evidence(champion=2))
    assert events(two)[-1] == ("registered", 3)


def test_a_version_from_an_unclean_workspace_is_registered_again_from_a_clean_one(
    registry: Registry, make_package: Make
) -> None:
    unclean = make_package(dirty=("components/x.py",))
    assert register(registry, unclean, clean=False) == 1
    assert register(registry, unclean, clean=False) == 1
    assert register(registry, make_package()) == 2
    assert register(registry, make_package()) == 2
    assert register(registry, unclean, clean=False) == 2


def test_an_interrupted_registration_is_completed(registry: Registry, make_package: Make) -> None:
    package = make_package()
    orphan = registry.store.register("m", package)  # killed before the ledger's row
    assert states(registry.rows()) == []
    assert "not in the ledger" in reconcile(registry)[0]
    with pytest.raises(InputError, match="no registered version 1"):
        fetch("m/1")
    assert register(registry, package) == orphan.version
    assert reconcile(registry) == []
    assert len(registry.store.versions("m")) == 1


def test_an_interrupted_run_is_ended_by_the_next(
    registry: Registry, make_package: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = make_package()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Package, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            register(registry, package)
    assert registry.store.versions("m") == []
    assert register(registry, package) == 1
    experiment = registry.store._client.get_experiment_by_name("m").experiment_id
    runs = registry.store._client.search_runs([experiment])
    assert sorted(run.info.status for run in runs) == ["FINISHED", "KILLED"]


def test_an_interrupted_verdict_is_completed(
    registry: Registry, make_package: Make, make_evidence: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = register(registry, make_package())

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(promotion, "_conclude", killed)
        with pytest.raises(KeyboardInterrupt):
            decide(registry, version, make_evidence())
    assert events(registry)[-1] == ("gated", 1)
    assert decide(registry, version, make_evidence()).promoted
    assert events(registry) == [("registered", 1), ("gated", 1), ("promoted", 1)]


def name_champion(registry: Registry, version: int, champion: int) -> None:
    """The ledger's part of a promotion, as if killed before MLflow's part."""
    registry.ledger.append(
        Entry("m", Event.PROMOTED, version, "ann", "passed", {}, expected_champion=champion)
    )


def test_a_kill_between_ledger_and_alias_is_repaired(two: Registry, make_package: Make) -> None:
    register(two, make_package("c"))
    name_champion(two, 3, 2)
    assert two.store.alias("m") == 2
    notes = reconcile(two)
    assert "a promotion was interrupted" in notes[0]
    assert two.store.alias("m") == 3
    assert reconcile(two) == []


@pytest.mark.parametrize("version", [1, None])
def test_an_alias_moved_by_hand_is_named_and_put_right(two: Registry, version: int | None) -> None:
    two.store.set_alias("m", version)
    notes = reconcile(two)
    assert "moved by hand" in notes[0]
    assert f"pointed at version {version or 'none'}, the ledger says 2" in notes[0]
    assert two.store.alias("m") == 2


def test_an_alias_without_a_champion_is_removed(registry: Registry, make_package: Make) -> None:
    register(registry, make_package())
    registry.store.set_alias("m", 1)
    assert "moved by hand" in reconcile(registry)[0]
    assert registry.store.alias("m") is None


def test_a_moved_alias_does_not_mislead_a_fetch(two: Registry) -> None:
    two.store.set_alias("m", 1)
    assert (fetch("m@champion").folder / "student.json").read_text() == "b student.json"


def test_rollback_returns_to_an_earlier_champion(two: Registry, make_evidence: Make) -> None:
    row = rollback(two, 1, actor="bob", reason="false alarms at the desk")
    assert (row.version, row.previous_champion, row.actor) == (1, 2, "bob")
    assert two.store.alias("m") == two.ledger.champion("m") == 1
    assert [entry.status for entry in states(two.rows())] == ["champion", "former champion"]
    # The next scheduled run finds nothing new and leaves the person's decision alone.
    again = decide(two, 2, make_evidence(champion=1))
    assert not again.promoted
    assert not again.recorded
    assert "bob rolled it back (false alarms at the desk)" in again.sentence


def test_new_evidence_does_not_undo_a_rollback(two: Registry, make_evidence: Make) -> None:
    rollback(two, 1, actor="bob", reason="false alarms")
    again = decide(two, 2, make_evidence(champion=1, f1=0.9))
    assert again.recorded
    assert not again.promoted
    assert two.ledger.champion("m") == 1
    rollback(two, 2, actor="bob", reason="the desk was wrong")
    assert decide(two, 2, make_evidence(champion=2, f1=0.9)).promoted


def test_rollback_refuses_what_never_was_or_is_champion(two: Registry, make_package: Make) -> None:
    register(two, make_package("c"))
    refused = {2: "already the champion", 3: "was never champion", 9: "no registered"}
    for version, said in refused.items():
        with pytest.raises(InputError, match=said):
            rollback(two, version, actor="bob", reason="because")
    with pytest.raises(InputError, match="reason"):
        rollback(two, 1, actor="bob", reason=" ")
    assert two.store.alias("m") == 2


def test_a_damaged_ledger_stops_every_command(
    two: Registry, addresses: dict[str, str], make_package: Make, make_evidence: Make
) -> None:
    engine = sa.create_engine(addresses["IML_LEDGER_URL"])
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM ledger WHERE sequence = 6")  # the last
    for action in (
        lambda: reconcile(two),
        lambda: fetch("m@champion"),
        lambda: register(two, make_package("c")),
        lambda: decide(two, 2, make_evidence(champion=1)),
        lambda: rollback(two, 1, actor="bob", reason="because"),
    ):
        with pytest.raises(CheckError, match="rows after 5 are missing"):
            action()


def test_a_ledger_and_a_store_that_do_not_belong_together_are_named(
    two: Registry, addresses: dict[str, str], tmp_path: Path, empty_store: Path
) -> None:
    elsewhere = Registry(Ledger(), Store(f"sqlite:///{empty_store}"), "m")
    with pytest.raises(CheckError, match="missing from MLflow"):
        reconcile(elsewhere)
