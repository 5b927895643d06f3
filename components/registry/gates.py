"""Promotion gates: what a version must show, as pure functions of recorded evidence.

Thresholds that are null in params.yaml are not asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from components.core.params import Gates, Promotion
from components.registry import verdicts
from components.registry.comparison import Comparison, Difference
from components.registry.verdicts import Gate, at_least, at_most, finite, measured

F1_GATE, ALARM_GATE, BETTER_GATE = (
    "not_worse_than_champion",
    "no_more_false_alarms_than_champion",
    "better_than_champion",
)
COMPARISONS = (F1_GATE, ALARM_GATE, BETTER_GATE)
LATENCY = "max_latency_ms"


@dataclass(frozen=True)
class GateEvidence:
    """What the gates judge; what could not be read is None.

    Attributes:
        validation: `runs/validate/result.json`.
        metrics: `metrics.json` of the data set whose test photos decide.
        parity: `runs/export/parity.json`.
        dirty: uncommitted paths of the workspace.
        record: the version's lineage record, fetched from the registry.
        licences: licence by what it belongs to.
        signer: fingerprint of the key whose signature of the version's folder was verified.
        signature_problem: why there is no signer.
        megabytes: size of the student's weights.
        latency_ms: time for one photo here.
        comparison: with the champion; not needed when the version is the champion.
        champion: the champion; None where there is none.
        hashes: SHA-256 by name of the files that the above was read from.
    """

    validation: Mapping[str, Any] | None
    metrics: Mapping[str, Any] | None
    parity: Mapping[str, Any] | None
    dirty: Sequence[str] | None
    record: Mapping[str, Any] | None
    licences: Mapping[str, str] | None
    signer: str | None
    signature_problem: str
    megabytes: float | None
    latency_ms: float | None
    comparison: Comparison | None
    champion: int | None
    hashes: Mapping[str, str]


def judge(version: int, evidence: GateEvidence, promotion: Promotion) -> list[Gate]:
    """Every gate's verdict, in the order in which they are shown."""
    return [
        verdicts.said_yes("data_validation", "data validation", evidence.validation),
        *_figures(evidence.metrics, promotion.gates),
        *_budgets(evidence, promotion.gates),
        verdicts.onnx_parity(evidence.parity),
        verdicts.lineage_complete(evidence.record),
        verdicts.signature_valid(evidence.signer, evidence.signature_problem),
        *_licences(evidence, promotion.gates),
        verdicts.workspace_clean(evidence.dirty, promotion.gates.require_clean),
        *against_champion(version, evidence.champion, evidence.comparison, promotion),
    ]


def _figures(metrics: Mapping[str, Any] | None, gates: Gates) -> list[Gate]:
    f1 = at_least("min_f1", "F1", measured(metrics, "f1"), gates.min_f1)
    found = [
        replace(f1, reason=verdicts.without_truth(metrics) or f1.reason),
        at_least("min_image_auc", "image AUC", measured(metrics, "image_auc"), gates.min_image_auc),
        at_most(
            "max_false_alarm_area",
            "false-alarm area",
            measured(metrics, "false_alarm_area"),
            gates.max_false_alarm_area,
        ),
    ]
    if gates.max_ece is not None:
        error = measured(metrics, "ece")
        found.append(at_most("max_ece", "ECE", error, gates.max_ece))
    if gates.min_robustness is not None:
        kept = verdicts.robustness_kept(metrics)
        found.append(
            at_least("min_robustness", "F1 kept under distortion", kept, gates.min_robustness)
        )
    return found


def _budgets(evidence: GateEvidence, gates: Gates) -> list[Gate]:
    found = []
    if gates.max_megabytes is not None:
        size = evidence.megabytes
        found.append(at_most("max_megabytes", "size in MB", size, gates.max_megabytes))
    if gates.max_latency_ms is not None:
        time = evidence.latency_ms
        found.append(at_most(LATENCY, "ms for a photo", time, gates.max_latency_ms))
    return found


def _licences(evidence: GateEvidence, gates: Gates) -> list[Gate]:
    if gates.allowed_licences is None:
        return []
    return [verdicts.licences_allowed(evidence.licences, gates.allowed_licences)]


def against_champion(
    version: int, champion: int | None, comparison: Comparison | None, promotion: Promotion
) -> list[Gate]:
    """Non-inferior in F1 and false alarms, by the margins (one-sided bounds at 1 - alpha).

    Where no person decides it must be better in F1, too. A first champion has nobody to be
    compared with and is judged by the absolute thresholds alone.
    """
    gates = promotion.gates
    asked: dict[str, float] = {
        F1_GATE: -gates.champion_margin,
        ALARM_GATE: gates.champion_alarm_margin,
    }
    if promotion.mode == "auto" and gates.superiority:
        asked[BETTER_GATE] = 0.0
    if champion is None:
        why = "the first champion is not compared"
        return [Gate(name, "no champion", t, True, why) for name, t in asked.items()]
    if champion == version:
        why = f"version {version} is the champion"
        return [Gate(name, "champion", t, True, why) for name, t in asked.items()]
    if comparison is None or comparison.champion != champion:
        why = f"no comparison with champion {champion}"
        return [Gate(name, None, t, False, why) for name, t in asked.items()]
    measures = {
        F1_GATE: ("F1", comparison.f1),
        ALARM_GATE: ("false-alarm area", comparison.false_alarm_area),
        BETTER_GATE: ("F1", comparison.f1),
    }
    return [_tested(name, t, *measures[name], comparison) for name, t in asked.items()]


def _tested(
    name: str, threshold: float, what: str, found: Difference, comparison: Comparison
) -> Gate:
    """Passes where the bound of the difference, and so the difference, is on the right side."""
    alarm = name == ALARM_GATE
    bound = finite(found.high if alarm else found.low)
    if bound is None:
        return verdicts.missing(
            name,
            threshold,
            f"bound of the difference in {what} from champion {comparison.champion}",
        )
    passed = bound < threshold if alarm else bound > threshold
    side = "at most" if alarm else "at least"
    out = f", {comparison.left_out} left out" if comparison.left_out else ""
    reason = (
        f"{what} {found.candidate:.4f}, version {comparison.champion} {found.champion:.4f}: "
        f"differs by {found.value:+.4f}, {side} {bound:+.4f} (one-sided bound) "
        f"({found.n} photos of {found.groups} sources{out})"
    )
    return Gate(name, bound, threshold, passed, reason)


def passed(verdicts: Sequence[Gate]) -> bool:
    """Whether every gate passed; no verdict at all fails."""
    return bool(verdicts) and all(gate.passed for gate in verdicts)
