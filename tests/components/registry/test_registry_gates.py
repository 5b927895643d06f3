"""Gates: thresholds, and evidence that is missing or no number never passes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import InputError
from components.files import canonical_json
from components.params import Evaluate, Gates, Robustness
from components.registry import gates
from components.registry.evidence import compare, gather
from components.registry.gates import Comparison, Evidence, Gate, judge

THRESHOLDS = Gates(
    min_f1=0.2,
    min_image_auc=0.5,
    max_false_alarm_area=0.2,
    champion_margin=0.02,
    require_clean=False,
)
NAMES = [
    "data_validation",
    "min_f1",
    "min_image_auc",
    "max_false_alarm_area",
    "onnx_parity",
    "workspace_clean",
    "not_worse_than_champion",
]
NO_NUMBERS = [None, math.nan, math.inf, -math.inf, "0.9", True, [0.9], {}]


def verdict(evidence: Evidence, name: str, version: int = 2, **changes: Any) -> Gate:
    found = judge(version, evidence, THRESHOLDS.model_copy(update=changes))
    assert [gate.name for gate in found] == NAMES
    canonical_json([gate.row() for gate in found])  # finite, whatever the evidence
    return next(gate for gate in found if gate.name == name)


def test_good_evidence_passes_every_gate(make_evidence: Callable[..., Evidence]) -> None:
    found = judge(2, make_evidence(champion=1), THRESHOLDS)
    assert gates.passed(found)
    assert not any(gate.warning for gate in found)
    assert all(gate.reason for gate in found)


def test_no_evidence_fails_every_gate_but_the_first_champions_comparison() -> None:
    nothing = Evidence(None, None, None, None, None, None, {})
    assert [gate.passed for gate in judge(1, nothing, THRESHOLDS)] == [False] * 6 + [True]
    against = replace(nothing, champion=3)
    assert not any(gate.passed for gate in judge(4, against, THRESHOLDS))
    assert not gates.passed([])


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
    make_evidence: Callable[..., Evidence], gate: str, metric: str, value: object
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
    make_evidence: Callable[..., Evidence], result: dict[str, Any] | None
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
    make_evidence: Callable[..., Evidence], parity: dict[str, Any] | None
) -> None:
    assert not verdict(make_evidence(parity=parity), "onnx_parity").passed


def test_an_unclean_workspace_warns_or_fails(make_evidence: Callable[..., Evidence]) -> None:
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


@pytest.mark.parametrize(
    ("difference", "passes"),
    [(0.1, True), (0.0, True), (-0.02, True), (-0.0201, False), (None, False), (math.nan, False)],
)
def test_the_point_difference_from_the_champion_decides(
    make_evidence: Callable[..., Evidence], difference: float | None, passes: bool
) -> None:
    against = Comparison(1, 0.5, 0.5, difference, -0.9, 0.9, 9)
    found = verdict(make_evidence(champion=1, comparison=against), "not_worse_than_champion")
    assert found.passed == passes
    if passes:
        assert "interval -0.9000 to +0.9000" in found.reason


def test_a_comparison_with_another_champion_does_not_count(
    make_evidence: Callable[..., Evidence],
) -> None:
    against = Comparison(1, 0.9, 0.1, 0.8, 0.7, 0.9, 9)
    assert not verdict(
        make_evidence(champion=3, comparison=against), "not_worse_than_champion"
    ).passed


def test_the_champion_is_not_compared_with_itself(make_evidence: Callable[..., Evidence]) -> None:
    evidence = make_evidence(champion=2, comparison=None)
    assert verdict(evidence, "not_worse_than_champion", version=2).passed


LEVELS = Robustness(jpeg=[], blur=[], noise=[], resize=[], social=[])
PARAMS = Evaluate(
    datasets=["made"], bootstrap=200, confidence=0.9, seed=1, threads=1, robustness=LEVELS
)


def scored(values: list[float | None], first: int = 0) -> pd.DataFrame:
    rows = [
        {"image_id": f"p{first + i}", "group": f"g{i // 2}", "label": "manipulated", "f1": value}
        for i, value in enumerate(values)
    ]
    authentic = {"image_id": "a", "group": "g9", "label": "authentic", "f1": None}
    return pd.DataFrame([*rows, authentic])


def test_versions_are_compared_photo_by_photo() -> None:
    ours, theirs = scored([0.5, 0.7, 0.9, 0.1]), scored([0.4, 0.6, 0.8, 0.4])
    found = compare(7, ours.sample(frac=1, random_state=3), theirs, PARAMS)
    assert (found.champion, found.n) == (7, 4)
    assert found.candidate_f1 == pytest.approx(0.55)
    assert found.champion_f1 == pytest.approx(0.55)
    assert found.difference == pytest.approx(0.0)
    assert found.low is not None
    assert found.high is not None
    assert found.low == pytest.approx(-0.1)
    assert found.high == pytest.approx(0.1)


def test_other_photos_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="different photos"):
        compare(7, scored([0.5, 0.7]), scored([0.5, 0.7], first=1), PARAMS)
    with pytest.raises(InputError, match="cannot be compared"):
        compare(7, scored([0.5, None]), scored([0.5, 0.7]), PARAMS)
    with pytest.raises(InputError, match="twice"):
        compare(7, pd.concat([scored([0.5])] * 2), scored([0.5]), PARAMS)


def test_a_comparison_over_no_photo_fails_its_gate(
    make_evidence: Callable[..., Evidence],
) -> None:
    against = compare(1, scored([]), scored([]), PARAMS)
    assert against.difference is None
    evidence = make_evidence(champion=1, comparison=against)
    assert not verdict(evidence, "not_worse_than_champion").passed


def test_evidence_is_read_from_the_stages_files(tmp_path: Any) -> None:
    empty = gather(tmp_path, "made", dirty=[], champion=None, comparison=None)
    assert (empty.validation, empty.metrics, empty.parity, empty.hashes) == (None, None, None, {})
    (tmp_path / "validate").mkdir()
    (tmp_path / "validate/result.json").write_text('{"passed": true}')
    (tmp_path / "evaluate/made").mkdir(parents=True)
    (tmp_path / "evaluate/made/metrics.json").write_text('{"f1": {"value": 0.5}')  # cut short
    found = gather(tmp_path, "made", dirty=["x"], champion=None, comparison=None)
    assert found.validation == {"passed": True}
    assert found.metrics is None
    assert sorted(found.hashes) == ["evaluation", "validation"]
