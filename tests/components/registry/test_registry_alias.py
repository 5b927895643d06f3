"""Versions that somebody deleted in MLflow: named, recorded once, in nobody's way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from registry_support import RULES, evidence

from components.core.errors import CheckError, EvidenceError
from components.registry import chain
from components.registry.alias import reconcile, rename_back
from components.registry.chain import Event
from components.registry.downloads import fetch, verify_download
from components.registry.ledger import Ledger
from components.registry.package import Package
from components.registry.promotion import decide_and_promote, register, rollback
from components.registry.tracking import Store
from components.registry.versions import Registry, registration, states

Make = Callable[..., Package]


def delete(registry: Registry, version: int) -> None:
    """As the button on MLflow's page does."""
    registry.store._client.delete_model_version(registry.model, str(version))


def losses(registry: Registry) -> list[int]:
    return [row.version for row in registry.rows() if row.event == Event.WITHDRAWN]


@pytest.fixture
def without_first(two: Registry) -> Registry:
    delete(two, 1)
    return two


@pytest.fixture
def without_champion(two: Registry) -> Registry:
    delete(two, 2)
    return two


def test_a_deleted_version_is_recorded_once_by_commands_that_write(without_first: Registry) -> None:
    registry = without_first
    assert reconcile(registry) == reconcile(registry)  # reading: nothing is written
    (note,) = reconcile(registry, writing=True)
    assert note == "version 1 of m is missing from MLflow: it was deleted there; it cannot be used"
    assert losses(registry) == [1]
    assert registry.rows()[-1].facts() == {"missing": "model version"}
    assert reconcile(registry, writing=True) == []
    assert losses(registry) == [1]
    assert registry.store.alias("m") == 2


def test_everything_else_goes_on_without_a_deleted_version(
    without_first: Registry, make_package: Make
) -> None:
    registry = without_first
    reconcile(registry, writing=True)
    found = states(registry.rows())
    assert found == states(registry.rows(), registry.held())
    assert [(s.status, s.withdrawn) for s in found] == [
        ("former champion", True),
        ("champion", False),
    ]
    assert fetch("m@champion").version == 2
    assert register(registry, make_package("c"), clean=True, actor="ann") == 3
    assert decide_and_promote(registry, 3, evidence(2, f1=0.9), RULES, actor="ann").promoted
    assert rollback(registry, 2, actor="bob", reason="because").version == 2
    assert registry.store.alias("m") == 2


def test_only_what_is_asked_for_is_refused(without_first: Registry) -> None:
    registry = without_first
    born = registration(registry.rows(), 1)
    for action in (
        lambda: fetch("m/1"),
        lambda: verify_download(registry, 1, born.facts()),
        lambda: rollback(registry, 1, actor="bob", reason="because"),
    ):
        with pytest.raises(EvidenceError, match=r"^m/1: MLflow no longer has this version"):
            action()


def test_a_copy_kept_here_is_not_used_once_the_ledger_knows(two: Registry) -> None:
    assert fetch("m/1").version == 1
    delete(two, 1)
    reconcile(two, writing=True)
    with pytest.raises(EvidenceError, match="no longer has"):
        fetch("m/1")


def test_without_the_champion_an_earlier_one_can_return(
    without_champion: Registry, make_package: Make
) -> None:
    registry = without_champion
    with pytest.raises(EvidenceError, match="`iml model rollback`"):
        fetch("m@champion")
    for _ in range(2):  # it is said every time, and recorded once
        (note,) = reconcile(registry, writing=True)
        assert note.startswith("the champion, version 2 of m, is missing from MLflow")
    assert losses(registry) == [2]
    assert registry.store.alias("m") is None
    assert register(registry, make_package("c"), clean=True, actor="ann") == 3
    assert registry.ledger.champion("m") == 2
    assert rollback(registry, 1, actor="bob", reason="the champion is gone").version == 1
    assert registry.store.alias("m") == registry.ledger.champion("m") == 1
    assert reconcile(registry, writing=True) == []


def test_an_alias_put_on_another_version_meanwhile_is_removed(without_champion: Registry) -> None:
    without_champion.store.set_alias("m", 1)
    notes = reconcile(without_champion)
    assert "pointed at version 1, the ledger says 2" in notes[-1]
    assert without_champion.store.alias("m") is None


def test_a_version_that_is_back_is_intact_again(two: Registry, tmp_path: Path) -> None:
    whole = (tmp_path / "mlflow.db").read_bytes()
    delete(two, 1)
    reconcile(two, writing=True)
    head = two.store.ledger_head("m")
    (tmp_path / "mlflow.db").write_bytes(whole)  # the store's backup
    two.store.set_ledger_head("m", str(head))
    assert not states(two.rows(), two.held())[0].withdrawn
    assert rollback(two, 1, actor="bob", reason="it is back").version == 1
    assert not chain.withdrawn(two.rows(), 1)
    delete(two, 1)
    reconcile(two, writing=True)
    assert losses(two) == [1, 1]


def test_a_loss_of_what_was_never_registered_is_a_fault(two: Registry) -> None:
    delete(two, 1)
    reconcile(two, writing=True)
    rows = two.rows()
    assert chain.problems(rows) == []
    (first, *_), lost = rows, rows[-1]
    values = {**vars(lost), "version": 9, "sequence": 2, "previous_hash": first.hash}
    forged = chain.Row(**{**values, "hash": chain.digest(values)})
    assert chain.problems([first, forged]) == [
        "row 2 (withdrawn version 9) is of a version that was never registered"
    ]


def test_a_model_renamed_in_mlflow_is_named_and_gets_its_name_back(
    two: Registry, make_package: Make
) -> None:
    before = two.rows()
    two.store._client.create_registered_model("another", tags={"ledger_head": "3:x"})
    two.store._client.rename_registered_model("m", "better")
    for action in (
        lambda: reconcile(two),
        lambda: fetch("m@champion"),
        lambda: register(two, make_package("c"), clean=True, actor="ann"),
        lambda: rollback(two, 1, actor="bob", reason="because"),
    ):
        with pytest.raises(EvidenceError) as caught:
            action()
        assert "m was renamed to better in MLflow; `iml model rename better m`" in str(caught.value)
    with pytest.raises(CheckError, match="another is not m under another name"):
        rename_back(two, "another")
    with pytest.raises(CheckError, match="nothing is not m"):
        rename_back(two, "nothing")
    rename_back(two, "better")
    assert reconcile(two) == []
    assert two.rows() == before
    assert (two.store.alias("m"), two.held()) == (2, {1, 2})
    assert fetch("m@champion").version == 2


def test_a_renamed_model_that_was_never_gated_is_named_too(
    registry: Registry, make_package: Make
) -> None:
    register(registry, make_package(), clean=True, actor="ann")
    registry.store._client.rename_registered_model("m", "better")
    with pytest.raises(EvidenceError, match="renamed to better"):
        reconcile(registry, writing=True)


def test_a_deleted_model_is_named(two: Registry) -> None:
    two.store._client.delete_registered_model("m")
    with pytest.raises(EvidenceError, match=r"all versions of m, .* are missing from MLflow"):
        two.rows()


def test_another_store_is_no_loss(
    registry: Registry, make_package: Make, tmp_path: Path, empty_store: Path
) -> None:
    register(registry, make_package(), clean=True, actor="ann")
    elsewhere = Registry(Ledger(), Store(f"sqlite:///{empty_store}"), "m")
    with pytest.raises(CheckError, match="check that both addresses belong together"):
        reconcile(elsewhere, writing=True)
