"""Gates judged again by their own rows: what came later, wording and unknown gates are no fault."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import lineage_support as support
import pytest

from components.core.files import canonical_json
from components.lineage.checks.gates import gates
from components.lineage.collect import collect
from components.lineage.evidence import Evidence
from components.lineage.verdict import Finding, Verdict
from components.registry import attestations
from components.registry.chain import Event, Row, digest
from components.registry.layout import TEST_RESULT


@pytest.fixture
def one(project: Path, standing: Callable[[Path], None]) -> Iterator[Evidence]:
    standing(project)
    with collect(f"{support.MODEL}/1") as evidence:
        yield evidence


def changed(evidence: Evidence, change: Callable[[dict[str, Any]], object]) -> list[Finding]:
    """Findings where the `gated` row had held other facts from the start; verified ones left out.

    Its attestation says the same, and rows that name it follow.
    """
    (old,) = [row for row in evidence.own_rows if row.event == Event.GATED]
    facts = old.facts()
    change(facts)
    facts[TEST_RESULT] = attestations.sealed(attestations.test_result(evidence.facts, facts))
    new = _with(old, facts)
    rows = [
        new if row == old else _with(row, json.loads(row.evidence.replace(old.hash, new.hash)))
        for row in evidence.rows
    ]
    found = gates(replace(evidence, rows=rows))
    return [finding for finding in found if finding.verdict != Verdict.VERIFIED]


def _with(row: Row, facts: dict[str, Any]) -> Row:
    row = replace(row, evidence=canonical_json(facts).decode())
    return replace(row, hash=digest(asdict(row)))


def gate(facts: dict[str, Any], name: str) -> dict[str, Any]:
    """The gate of this name."""
    return next(found for found in facts["gates"] if found["name"] == name)


def without(facts: dict[str, Any], name: str) -> None:
    """As if the gate had not been there yet, nor its threshold."""
    facts["gates"].remove(gate(facts, name))
    facts["thresholds"].pop(name, None)


def test_nothing_changed_is_verified(one: Evidence) -> None:
    assert changed(one, lambda facts: None) == []


@pytest.mark.parametrize(
    "change",
    [
        # A gate with a threshold, one that was switched off and a yes/no gate came later.
        lambda facts: without(facts, "min_image_auc"),
        lambda facts: facts["thresholds"].pop("max_ece"),
        lambda facts: without(facts, "onnx_parity"),
        lambda facts: without(facts, "not_worse_than_champion"),
        # Rules that are no longer asked for, or are called something else.
        lambda facts: facts["thresholds"].update(retired=0.5),
        lambda facts: facts.pop("mode"),
        # Other words.
        lambda facts: gate(facts, "data_validation").update(value="good", threshold="yes"),
        lambda facts: gate(facts, "workspace_clean").update(value="nothing", threshold="nothing"),
        lambda facts: gate(facts, "lineage_complete").update(value="whole", reason="it is"),
        lambda facts: gate(facts, "not_worse_than_champion").update(value="nobody before"),
        # Rounding.
        lambda facts: gate(facts, "min_f1").update(value=gate(facts, "min_f1")["value"] + 1e-13),
    ],
)
def test_what_later_code_changes_is_no_fault(
    one: Evidence, change: Callable[[dict[str, Any]], object]
) -> None:
    assert [found.line() for found in changed(one, change)] == []


def test_a_gate_of_another_program_is_remarked_on(one: Evidence) -> None:
    later = {"name": "min_recall", "value": 0.7, "threshold": 0.5, "passed": True, "reason": "is"}
    (found,) = changed(one, lambda facts: facts["gates"].append(later))
    assert (found.verdict, found.fault) == (Verdict.REMARK, False)
    assert found.what == "gate min_recall: not judged again, unknown to this program"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("min_f1", {"value": 0.99}),  # not the recorded number
        ("min_f1", {"threshold": 0.5}),  # nor the row's threshold
        ("min_f1", {"passed": False}),  # against its own value and threshold
        ("min_f1", {"value": None, "passed": False}),
        ("max_false_alarm_area", {"value": -0.5}),
        ("onnx_parity", {"value": 0.0}),
        ("onnx_parity", {"threshold": 1.0}),
        ("data_validation", {"passed": False}),
        ("not_worse_than_champion", {"value": -2.0}),
        ("not_worse_than_champion", {"threshold": 0.5}),
        ("no_more_false_alarms_than_champion", {"value": 2.0}),
    ],
)
def test_a_gate_that_contradicts_its_numbers_is_broken(
    one: Evidence, name: str, change: dict[str, Any]
) -> None:
    found = changed(one, lambda facts: gate(facts, name).update(change))
    (line,) = [f for f in found if f.where.endswith(f" {name}")]
    assert line.verdict == Verdict.BROKEN


def test_one_that_passed_for_an_unknown_reason_cannot_be_verified(one: Evidence) -> None:
    def compare(facts: dict[str, Any]) -> None:
        facts["champion"] = 2
        gate(facts, "not_worse_than_champion").update(value="waived")

    found = [f for f in changed(one, compare) if f.where.endswith("not_worse_than_champion")]
    assert [f.verdict for f in found] == [Verdict.UNVERIFIABLE]
    assert "why it passed" in found[0].what


def test_a_promotion_against_a_failed_gate_is_broken(one: Evidence) -> None:
    (found,) = changed(one, lambda facts: gate(facts, "workspace_clean").update(passed=False))
    assert (found.verdict, found.what) == (Verdict.BROKEN, "promoted against its gates")
