"""Gates: thresholds, and evidence that is missing or no number never passes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from registry_support import GATES, RECORD, RULES, comparison, evidence, rules

from components.core import paths
from components.core.files import canonical_json
from components.core.params import Gates
from components.registry import gates
from components.registry.comparison import Difference
from components.registry.evidence import Attested, collect
from components.registry.gates import ALARM_GATE, BETTER_GATE, F1_GATE, Gate, GateEvidence, judge

NAMES = [
    "data_validation",
    "min_f1",
    "min_image_auc",
    "max_false_alarm_area",
    "onnx_parity",
    "lineage_complete",
    "signature_valid",
    "workspace_clean",
    "not_worse_than_champion",
    "no_more_false_alarms_than_champion",
]
NO_NUMBERS = [None, math.nan, math.inf, -math.inf, "0.9", True, [0.9], {}]


def verdict(evidence: GateEvidence, name: str, version: int = 2, **changes: Any) -> Gate:
    found = judge(version, evidence, rules(**changes))
    assert [gate.name for gate in found if gate.name in NAMES] == NAMES
    canonical_json([gate.row() for gate in found])  # finite, whatever the evidence
    return next(gate for gate in found if gate.name == name)


def test_good_evidence_passes_every_gate(make_evidence: Callable[..., GateEvidence]) -> None:
    found = judge(2, make_evidence(champion=1), RULES)
    assert gates.passed(found)
    assert not any(gate.warning for gate in found)
    assert all(gate.reason for gate in found)


def test_no_evidence_fails_every_gate_but_the_first_champions_comparison() -> None:
    nothing = GateEvidence(*[None] * 7, "", *[None] * 4, {})  # type: ignore[arg-type]
    everything = Gates(
        **{n: 0.5 if v is None else v for n, v in GATES.model_dump().items()}
        | {"min_photos": 1, "min_groups": 1, "allowed_licences": ["MIT"], "superiority": True}
    )
    asked = RULES.model_copy(update={"gates": everything})
    found = judge(1, nothing, asked)
    assert len(found) == 18
    assert [gate.passed for gate in found] == [False] * 15 + [True] * 3
    against = replace(nothing, champion=3)
    assert not any(gate.passed for gate in judge(4, against, asked))
    assert not gates.passed([])


def test_a_missing_f1_is_explained(make_evidence: Callable[..., GateEvidence]) -> None:
    metrics = {"f1": {"value": None}, "n_manipulated": 14, "n_without_mask": 14}
    found = verdict(make_evidence(champion=1, metrics=metrics), "min_f1")
    assert (found.passed, found.reason) == (
        False,
        "F1 is not measured: 0 of 14 manipulated test photos have a true mask",
    )


@pytest.mark.parametrize("value", NO_NUMBERS)
@pytest.mark.parametrize(
    ("gate", "metric"),
    [
        ("min_f1", "f1"),
        ("min_image_auc", "image_auc"),
        ("max_false_alarm_area", "false_alarm_area"),
    ],
)
def test_a_metric_that_is_no_number_fails(
    make_evidence: Callable[..., GateEvidence], gate: str, metric: str, value: object
) -> None:
    evidence = make_evidence()
    for block in ({"value": value}, value):
        broken = replace(evidence, metrics={**(evidence.metrics or {}), metric: block})
        found = verdict(broken, gate)
        assert not found.passed
        assert found.value is None
    rest = {name: block for name, block in (evidence.metrics or {}).items() if name != metric}
    assert not verdict(replace(evidence, metrics=rest), gate).passed


@given(value=st.floats(0, 1), threshold=st.floats(0, 1))
def test_thresholds_are_inclusive(value: float, threshold: float) -> None:
    assert gates.at_least("g", "x", value, threshold).passed == (value >= threshold)
    assert gates.at_most("g", "x", value, threshold).passed == (value <= threshold)
    assert gates.at_least("g", "x", threshold, threshold).passed
    assert gates.at_most("g", "x", threshold, threshold).passed


@pytest.mark.parametrize(
    "result", [None, {}, {"passed": False}, {"passed": None}, {"passed": "yes"}, {"passed": 1}]
)
def test_validation_must_have_said_yes(
    make_evidence: Callable[..., GateEvidence], result: dict[str, Any] | None
) -> None:
    assert not verdict(make_evidence(validation=result), "data_validation").passed


@pytest.mark.parametrize(
    "parity",
    [
        None,
        {},
        {"tolerance": 1e-4},
        {"tolerance": 1e-4, "sizes": []},
        {"tolerance": 1e-4, "sizes": [{"largest_difference": 2e-4}]},
        {"tolerance": 1e-4, "sizes": [{"largest_difference": 0.0}, {"largest_difference": 2e-4}]},
        {"tolerance": 1e-4, "sizes": [{"largest_difference": 0.0}, {"largest_difference": None}]},
        {"tolerance": 1e-4, "sizes": [{"largest_difference": math.nan}]},
        {"tolerance": 1e-4, "sizes": [{}]},
        {"tolerance": 1e-4, "sizes": "none"},
        {"tolerance": math.nan, "sizes": [{"largest_difference": 0.0}]},
        {"tolerance": None, "sizes": [{"largest_difference": 0.0}]},
    ],
)
def test_parity_must_hold_at_every_size(
    make_evidence: Callable[..., GateEvidence], parity: dict[str, Any] | None
) -> None:
    assert not verdict(make_evidence(parity=parity), "onnx_parity").passed


def test_an_unclean_workspace_warns_or_fails(make_evidence: Callable[..., GateEvidence]) -> None:
    evidence = make_evidence(dirty=["params.yaml", "a"])
    warned = verdict(evidence, "workspace_clean")
    assert warned.passed
    assert warned.warning
    assert "params.yaml and 1 more" in warned.reason
    refused = verdict(evidence, "workspace_clean", require_clean=True)
    assert not refused.passed
    assert not refused.warning
    assert verdict(make_evidence(), "workspace_clean", require_clean=True).passed
    assert not verdict(make_evidence(dirty=None), "workspace_clean").passed


@pytest.mark.parametrize("robustness", [None, {}, {"blur": {"3": {}}}, {"blur": [{"f1": None}]}])
def test_robustness_needs_every_level(robustness: object) -> None:
    metrics = {**(evidence().metrics or {}), "robustness": robustness}
    assert not verdict(evidence(metrics=metrics), "min_robustness", min_robustness=0.0).passed


def test_robustness_is_the_mean_share_of_f1_kept() -> None:
    levels = {"blur": {"3": {"f1": {"value": 0.5}}, "7": {"f1": 0.3}}, "jpeg": [{"f1": 0.1}]}
    metrics = {**(evidence().metrics or {}), "robustness": levels}
    found = verdict(evidence(metrics=metrics), "min_robustness", min_robustness=0.6)
    assert found.value == pytest.approx(0.6)
    assert found.passed
    nothing = {**metrics, "f1": {"value": 0.0}}
    assert not verdict(evidence(metrics=nothing), "min_robustness", min_robustness=0.0).passed


@pytest.mark.parametrize(
    ("name", "field", "good", "bad"),
    [("max_megabytes", "megabytes", 12.0, 12.1), ("max_latency_ms", "latency_ms", 80, 81.5)],
)
def test_budgets(name: str, field: str, good: float, bad: float) -> None:
    assert verdict(evidence(**{field: good}), name, **{name: good}).passed
    for value in (bad, None, math.nan):
        assert not verdict(evidence(**{field: value}), name, **{name: good}).passed


def test_calibration_is_asked_for_where_there_is_a_threshold() -> None:
    metrics = {**(evidence().metrics or {}), "ece": {"value": 0.05}}
    assert verdict(evidence(metrics=metrics), "max_ece", max_ece=0.05).passed
    assert not verdict(evidence(metrics=metrics), "max_ece", max_ece=0.04).passed
    assert not verdict(evidence(), "max_ece", max_ece=0.5).passed


@pytest.mark.parametrize("part", sorted(RECORD))
def test_a_record_without_one_of_its_parts_is_not_complete(part: str) -> None:
    assert verdict(evidence(), "lineage_complete").passed
    for gap in ({part: None}, {part: {}}):
        found = verdict(evidence(record={**RECORD, **gap}), "lineage_complete")
        assert not found.passed, (gap, found)


def test_a_signature_that_was_not_verified_fails() -> None:
    problem = evidence(signer=None, signature_problem="m/1: student.json was changed")
    assert "student.json was changed" in verdict(problem, "signature_valid").reason
    assert not verdict(problem, "signature_valid").passed
    assert verdict(evidence(), "signature_valid").passed


def test_licences() -> None:
    allowed = {"allowed_licences": ["CC0-1.0", "Apache-2.0"]}
    assert verdict(evidence(), "licences_allowed", **allowed).passed
    for licences in (None, {}, {"data set made": "research only"}):
        found = verdict(evidence(licences=licences), "licences_allowed", **allowed)
        assert not found.passed
    assert "data set made is 'research only'" in found.reason


@pytest.mark.parametrize(
    ("low", "passes"),
    [(0.1, True), (-0.0199, True), (-0.02, False), (None, False), (math.nan, False)],
)
def test_the_lower_bound_of_f1_decides(low: float | None, passes: bool) -> None:
    found = replace(comparison(1, 0.5, left_out=3), f1=Difference(0.5, 0.5, 0.0, low, 0.1, 9, 5))
    gate = verdict(evidence(1, comparison=found), F1_GATE)
    assert gate.passed == passes
    if passes:
        assert "9 photos of 5 sources, 3 left out" in gate.reason


@pytest.mark.parametrize(
    ("high", "passes"), [(0.0099, True), (0.01, False), (None, False), (math.inf, False)]
)
def test_the_upper_bound_of_false_alarms_decides(high: float | None, passes: bool) -> None:
    alarms = Difference(0.01, 0.01, 0.0, -0.1, high, 9, 5)
    found = replace(comparison(1, 0.5), false_alarm_area=alarms)
    assert verdict(evidence(1, comparison=found), ALARM_GATE).passed == passes


def test_alone_the_gates_ask_for_better_and_with_a_person_for_not_worse() -> None:
    strict = rules(superiority=True)
    names = [gate.name for gate in judge(2, evidence(1), strict)]
    assert names[-1] == BETTER_GATE
    assert not gates.passed(judge(2, evidence(1, f1=0.509), strict))  # the bound is 0
    assert gates.passed(judge(2, evidence(1, f1=0.511), strict))
    by_people = strict.model_copy(update={"mode": "approve"})
    assert gates.passed(judge(2, evidence(1), by_people))


def test_a_comparison_with_another_champion_does_not_count() -> None:
    assert not verdict(evidence(3, comparison=comparison(1, 0.9)), F1_GATE).passed


def test_the_champion_is_not_compared_with_itself() -> None:
    assert verdict(evidence(2, comparison=None), F1_GATE).passed


def test_evidence_is_read_from_the_stages_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    nothing: dict[str, Any] = {
        "attested": Attested(None, None, "gone"),
        "champion": None,
        "comparison": None,
        "latency_ms": None,
    }
    empty = collect("made", dirty=[], **nothing)
    assert (empty.validation, empty.metrics, empty.parity, empty.hashes) == (None, None, None, {})
    metrics = paths.EVALUATED / "made" / paths.METRICS
    for path, text in ((paths.VALIDATION, '{"passed": true}'), (metrics, '{"f1": {"value": 0.5}')):
        path.parent.mkdir(parents=True)
        path.write_text(text)  # the second is cut short
    found = collect("made", dirty=["x"], **nothing)
    assert found.validation == {"passed": True}
    assert found.metrics is None
    assert sorted(found.hashes) == ["evaluation", "validation"]


def counted(f1: int, alarms: int, **changes: Any) -> GateEvidence:
    """That many photos behind each figure, of half as many sources."""
    metrics = {
        **(evidence().metrics or {}),
        "f1": {"value": 0.41, "low": 0.35, "high": 0.47, "n": f1},
        "false_alarm_area": {"value": 0.01, "n": alarms},
        "n_groups_manipulated": f1 // 2,
        "n_groups_authentic": alarms // 2,
    }
    return evidence(metrics=metrics, **changes)


def test_few_photos_or_sources_behind_a_figure_fail() -> None:
    asked = {"min_photos": 30, "min_groups": 15}
    for name, value in (("min_photos", 30), ("min_groups", 15)):
        found = verdict(counted(40, 30), name, **asked)
        assert (found.passed, found.value) == (True, value)
    found = verdict(counted(3, 40), "min_photos", **asked)
    assert (found.passed, found.value) == (False, 3)
    assert found.reason == "rests on too few photos: F1 on 3; 30 are required"
    found = verdict(counted(40, 20), "min_groups", **asked)
    assert found.reason == (
        "rests on too few source groups: false-alarm area on 10; 15 are required"
    )
    against = counted(40, 40, champion=1, comparison=comparison(1, 0.5))  # 9 photos of 5 sources
    reason = verdict(against, "min_photos", **asked).reason
    assert "the comparison in F1 on 9, the comparison in false-alarm area on 9" in reason


def test_counts_that_are_not_recorded_fail() -> None:
    for name in gates.COUNTS:
        found = verdict(evidence(), name, **{name: 1})
        assert (found.passed, found.value) == (False, None)
        assert name not in [gate.name for gate in judge(2, evidence(), RULES)]


def test_a_figure_is_shown_with_its_interval() -> None:
    assert verdict(counted(9, 9), "min_f1").reason == "F1 0.41 (0.35 to 0.47) reaches 0.2"
