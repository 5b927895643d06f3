"""The same student made again, in a real workspace: no new version, and no contest with itself."""

from __future__ import annotations

from pathlib import Path

import lineage_support as support
import pytest
import yaml

from components import workspace
from components.core import params as parameters
from components.lineage.audit import audit
from components.lineage.collect import collect
from components.lineage.verdict import Verdict
from components.registry.chain import Event
from components.registry.gates import COMPARISONS
from components.registry.ledger import Entry
from components.registry.versions import Registry
from flows import candidate

TWO = f"{support.MODEL}/2"


@pytest.fixture
def whole(copied: Path) -> Path:
    """The project with the data and outputs of version 2."""
    support.run(copied, "dvc", "pull", "--quiet")
    return copied


def test_a_comment_in_the_code_makes_no_new_version(whole: Path) -> None:
    code = whole / "components/distill/losses.py"
    code.write_text(f"{code.read_text()}# A remark.\n")
    support.commit(whole, "a remark")
    before = workspace.lock_text()
    support.run_stages()
    assert workspace.lock_text() != before
    notes: list[str] = []
    settings = parameters.load()
    for _ in range(2):
        version, new = candidate.register(settings, notes.append, "iml run")
        assert (version, new) == (2, False)
        assert candidate.decide(settings, 2).version == 2
    assert notes == [
        f"version 2 of {support.MODEL} is confirmed: the same student with the same evidence was "
        "made again"
    ]
    rows = Registry.open(support.MODEL).rows()
    (row,) = [row for row in rows if row.event == Event.CONFIRMED]
    assert row.facts()["commit"] == workspace.git_commit()
    with collect(TWO) as evidence:
        assert audit(evidence).verdict == Verdict.VERIFIED


def test_a_lost_champion_s_twin_takes_its_place_without_a_contest(whole: Path) -> None:
    registry = Registry.open(support.MODEL)
    reason = "for the test"
    registry.ledger.append(
        Entry(support.MODEL, Event.PROMOTED, 2, "ann", reason, {}, expected_champion=1)
    )
    registry.store._client.delete_model_version(support.MODEL, "2")
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["promotion"]["gates"]["min_f1"] = 0.0
    Path("params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    support.commit(whole, "as before")
    settings = parameters.load()
    version, new = candidate.register(settings, lambda note: None, "iml run")
    assert (version, new) == (3, True)
    decision = candidate.decide(settings, 3)
    found = {gate.value for gate in decision.gates if gate.name in COMPARISONS}
    assert found == {"same student"}
    assert (decision.promoted, decision.replaced) == (True, 2)
    assert registry.store.alias(support.MODEL) == 3
