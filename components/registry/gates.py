"""Promotion gates: what a version must show, as pure functions of recorded evidence.

Evidence that is missing, null or not finite fails its gate. A threshold that is null in params.yaml
switches its gate off.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from components.core.params import Gates, Promotion
from components.registry.chain import NOT_COMPARABLE
from components.registry.comparison import Comparison

F1_GATE, ALARM_GATE, BETTER_GATE = (
    "not_worse_than_champion",
    "no_more_false_alarms_than_champion",
    "better_than_champion",
)
COMPARISONS = (F1_GATE, ALARM_GATE, BETTER_GATE)
COUNTS = ("min_photos", "min_groups")
LATENCY, FALSE_ALARMS = "max_latency_ms", "false-alarm area"
# What an audit follows in a lineage record, and where it is; `*` is every entry, at least one.
_LINKS = {
    "the git commit": "git.commit",
    "dvc.lock": "dvc_lock.sha256",
    "the stages": "stages.*.outs",
    "the data sets": "datasets.*.licence",
    "the teacher": "teacher.sha256",
    "the validation": "validation.sha256",
    "the evaluation": "evaluation.*.sha256",
    "the student's files": "files",
    "the packages": "environment.packages",
    "seeds and threads": "seeds_and_threads",
}


@dataclass(frozen=True)
class Gate:
    """One verdict.

    Attributes:
        name: of the gate.
        value: what was found; None where the evidence is missing or not finite.
        threshold: what was asked for; None where the question is yes or no.
        passed: False stops the promotion.
        reason: one sentence for people.
        warning: passed, but a person should know.
    """

    name: str
    value: float | str | None
    threshold: float | str | None
    passed: bool
    reason: str
    warning: bool = False

    def row(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


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
        incomparable: why there is no comparison with the champion.
        erased: how many photos that it was trained or tuned on have been erased since; None where
            the rules do not ask.
        twin: whether the champion is the same student, made with uncommitted changes or lost in
            MLflow, whose place a clean version takes.
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
    incomparable: str = ""
    twin: bool = False
    erased: int | None = None


def judge(version: int, evidence: GateEvidence, promotion: Promotion) -> list[Gate]:
    """Every gate's verdict, in the order in which they are shown."""
    gates = promotion.gates
    return [
        _validation(evidence.validation),
        *_limits(evidence, gates),
        *_counts(evidence, gates),
        parity(evidence.parity),
        _lineage(evidence.record),
        _signature(evidence.signer, evidence.signature_problem),
        *_licences(evidence.licences, gates.allowed_licences),
        _workspace(evidence.dirty, gates.require_clean),
        *_erased(evidence.erased),
        *_against_champion(version, evidence, promotion),
    ]


def passed(gates: Sequence[Gate]) -> bool:
    """Whether every gate passed; no verdict at all fails."""
    return bool(gates) and all(gate.passed for gate in gates)


def _limits(evidence: GateEvidence, gates: Gates) -> Iterator[Gate]:
    """Numbers against their thresholds: of `min_` the least that passes, of `max_` the most."""
    metrics = evidence.metrics
    measured = {
        "min_f1": ("F1", *_measured(metrics, "f1")),
        "min_image_auc": ("image AUC", *_measured(metrics, "image_auc")),
        "max_false_alarm_area": (FALSE_ALARMS, *_measured(metrics, "false_alarm_area")),
        "max_ece": ("ECE", *_measured(metrics, "ece")),
        "min_robustness": ("F1 kept under distortion", robustness(metrics), ""),
        "max_megabytes": ("size in MB", evidence.megabytes, ""),
        LATENCY: ("ms for a photo", evidence.latency_ms, ""),
    }
    for name, (what, value, interval) in measured.items():
        threshold = getattr(gates, name)
        if name == "min_f1" and value is None and (reason := _no_masks(metrics)):
            yield Gate(name, None, threshold, False, reason)
        elif threshold is not None:
            limit = at_least if name.startswith("min_") else at_most
            yield limit(name, what, value, threshold, interval)


def _counts(evidence: GateEvidence, gates: Gates) -> Iterator[Gate]:
    """Photos and source groups behind each figure that decides; the value is the least of them."""
    counts = behind(evidence.metrics, evidence.comparison)
    for place, (name, what) in enumerate(zip(COUNTS, ("photos", "source groups"), strict=True)):
        threshold = getattr(gates, name)
        if threshold is None:
            continue
        found = {figure: finite(pair[place]) for figure, pair in counts.items()}
        known = [number for number in found.values() if number is not None]
        if len(known) < len(found):
            yield _missing(name, threshold, f"number of {what} behind each figure")
            continue
        few = [f"{figure} on {n:.0f}" for figure, n in found.items() if n < threshold]
        reason = f"rests on too few {what}: {', '.join(few)}; {threshold} are required"
        if not few:
            reason = f"each figure rests on at least {min(known):.0f} {what}"
        yield Gate(name, min(known), threshold, not few, reason)


def behind(
    metrics: Mapping[str, Any] | None, comparison: Comparison | None = None
) -> dict[str, tuple[Any, Any]]:
    """Numbers of photos and source groups by figure; None where they are not recorded."""
    metrics = metrics or {}
    figures = {"F1": ("f1", "manipulated"), FALSE_ALARMS: ("false_alarm_area", "authentic")}
    found = {
        figure: (_part(metrics, name, "n"), metrics.get(f"n_groups_{label}"))
        for figure, (name, label) in figures.items()
    }
    if comparison is not None:
        pairs = {"F1": comparison.f1, FALSE_ALARMS: comparison.false_alarm_area}
        found |= {f"the comparison in {name}": (d.n, d.groups) for name, d in pairs.items()}
    return found


def at_least(
    name: str, what: str, value: float | None, threshold: float, interval: str = ""
) -> Gate:
    """Passes a finite value that is not below the threshold."""
    number = finite(value)
    ok = number is not None and number >= threshold
    return _limit(name, what, number, threshold, interval, ok, "reaches" if ok else "is below")


def at_most(
    name: str, what: str, value: float | None, threshold: float, interval: str = ""
) -> Gate:
    """Passes a finite value that is not above the threshold."""
    number = finite(value)
    ok = number is not None and number <= threshold
    return _limit(name, what, number, threshold, interval, ok, "is within" if ok else "is above")


def _limit(
    name: str, what: str, number: float | None, threshold: float, interval: str, ok: bool, verb: str
) -> Gate:
    if number is None:
        return _missing(name, threshold, what)
    reason = f"{what} {number:.4g}{interval} {verb} {threshold:.4g}"
    return Gate(name, number, threshold, ok, reason)


def finite(value: Any) -> float | None:
    """A finite number as float; None for everything else (a bool is no measurement)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def metric(metrics: Mapping[str, Any] | None, name: str) -> float | None:
    """The value of one metric of a `metrics.json`, or None."""
    return _part(metrics, name, "value")


def _part(metrics: Mapping[str, Any] | None, name: str, part: str) -> float | None:
    block = (metrics or {}).get(name)
    return finite(block.get(part)) if isinstance(block, Mapping) else None


def _measured(metrics: Mapping[str, Any] | None, name: str) -> tuple[float | None, str]:
    """A metric's value, and its confidence interval in words where one is recorded."""
    low, high = (_part(metrics, name, part) for part in ("low", "high"))
    interval = "" if low is None or high is None else f" ({low:.4g} to {high:.4g})"
    return metric(metrics, name), interval


def _missing(name: str, threshold: float | None, what: str) -> Gate:
    return Gate(name, None, threshold, False, f"no finite {what} is recorded")


def _no_masks(metrics: Mapping[str, Any] | None) -> str | None:
    """Why a `metrics.json` has no F1, where no manipulated photo had a true mask; else None."""
    counts = metrics or {}
    photos, without = finite(counts.get("n_manipulated")), finite(counts.get("n_without_mask"))
    if photos is None or photos != without:
        return None
    return f"F1 is not measured: 0 of {photos:.0f} manipulated test photos have a true mask"


def robustness(metrics: Mapping[str, Any] | None) -> float | None:
    """Mean F1 over every recorded distortion, as a share of the F1 on the photos as they are.

    Reads the block `robustness` of a `metrics.json`, however its distortions and levels nest: each
    level is a mapping with `f1`. None where a level has no finite F1, or the plain F1 is 0.
    """
    plain = metric(metrics, "f1")
    levels = list(_levels((metrics or {}).get("robustness")))
    known = [value for value in levels if value is not None]
    if not plain or not known or len(known) != len(levels):
        return None
    return sum(known) / len(known) / plain


def _levels(block: Any) -> Iterator[float | None]:
    if isinstance(block, Mapping) and "f1" in block:
        f1 = block["f1"]
        yield finite(f1.get("value") if isinstance(f1, Mapping) else f1)
        return
    for part in _entries(block):
        yield from _levels(part)


def _entries(block: Any) -> list[Any]:
    if isinstance(block, Mapping):
        return list(block.values())
    return block if isinstance(block, list) else []


def _validation(result: Mapping[str, Any] | None) -> Gate:
    name, answer = "data_validation", (result or {}).get("passed")
    if not isinstance(answer, bool):
        return Gate(name, None, None, False, "no result of data validation is recorded")
    verdict = "passed" if answer else "failed"
    return Gate(name, verdict, "passed", answer, f"data validation {verdict}")


def parity(parity: Mapping[str, Any] | None) -> Gate:
    """Passes an ONNX export whose every recorded difference from torch is within its tolerance."""
    name, record = "onnx_parity", parity or {}
    tolerance, sizes = finite(record.get("tolerance")), record.get("sizes")
    if tolerance is None:
        return _missing(name, None, "tolerance of the ONNX export")
    rows = sizes if isinstance(sizes, list) else []
    found = [finite(r.get("largest_difference")) if isinstance(r, Mapping) else None for r in rows]
    known = [value for value in found if value is not None]
    worst = max(known) if known and len(known) == len(found) else None
    return at_most(name, "largest difference of ONNX from torch", worst, tolerance)


def _lineage(record: Mapping[str, Any] | None) -> Gate:
    """Passes a lineage record in which nothing is missing that an audit follows."""
    name = "lineage_complete"
    if record is None:
        return Gate(name, None, "complete", False, "the lineage record could not be read")
    gaps = [what for what, path in _LINKS.items() if not _has(record, path.split("."))]
    if gaps:
        reason = f"the lineage record lacks {', '.join(gaps)}"
        return Gate(name, f"{len(gaps)} missing", "complete", False, reason)
    return Gate(name, "complete", "complete", True, "every link is recorded")


def _has(block: Any, path: Sequence[str]) -> bool:
    if not path:
        return bool(block)
    if path[0] == "*":
        entries = _entries(block)
        return bool(entries) and all(_has(entry, path[1:]) for entry in entries)
    return isinstance(block, Mapping) and _has(block.get(path[0]), path[1:])


def _signature(signer: str | None, problem: str) -> Gate:
    name = "signature_valid"
    if signer is None:
        return Gate(name, None, "valid", False, problem or "the signature was not checked")
    return Gate(name, "valid", "valid", True, f"signed with key {signer[:16]}")


def _licences(found: Mapping[str, str] | None, allowed: Collection[str] | None) -> list[Gate]:
    """Passes where every licence of data and weights is exactly one of those allowed."""
    if allowed is None:
        return []
    name, threshold = "licences_allowed", ", ".join(sorted(allowed))
    if not found:
        return [Gate(name, None, threshold, False, "no licence is recorded")]
    wrong = {what: licence for what, licence in found.items() if licence not in allowed}
    if wrong:
        reason = "; ".join(f"{what} is {licence!r}" for what, licence in sorted(wrong.items()))
        value = f"{len(wrong)} not allowed"
        return [Gate(name, value, threshold, False, f"not allowed: {reason}")]
    reason = f"{len(found)} licences, all allowed"
    return [Gate(name, "all allowed", threshold, True, reason)]


def _workspace(dirty: Sequence[str] | None, required: bool) -> Gate:
    """Passes a clean workspace; an unclean one warns unless cleanliness is required."""
    name = "workspace_clean"
    if dirty is None:
        return Gate(name, None, "clean", False, "the state of the workspace is not recorded")
    if not dirty:
        return Gate(name, "clean", "clean", True, "no uncommitted change")
    more = f" and {len(dirty) - 1} more" if len(dirty) > 1 else ""
    reason = f"uncommitted: {dirty[0]}{more}; the version cannot be made again from git alone"
    return Gate(name, f"{len(dirty)} changed", "clean", not required, reason, warning=not required)


def _erased(count: int | None) -> list[Gate]:
    """No gate where the rules do not ask."""
    if count is None:
        return []
    reason = f"{count} photos that it was trained on were erased" if count else "none was erased"
    return [Gate("no_erased_photos", float(count), 0.0, not count, reason)]


def _against_champion(version: int, evidence: GateEvidence, promotion: Promotion) -> list[Gate]:
    """Non-inferior in F1 and false alarms, by the margins (one-sided bounds at 1 - alpha).

    Where no person decides it must be better in F1, too. A first champion has nothing to be
    compared with: the absolute thresholds alone decide.
    """
    gates, champion, comparison = promotion.gates, evidence.champion, evidence.comparison
    thresholds = {F1_GATE: -gates.champion_margin, ALARM_GATE: gates.champion_alarm_margin}
    if promotion.mode == "auto" and gates.superiority:
        thresholds[BETTER_GATE] = 0.0
    if champion is None:
        why = "the first champion is not compared"
        return [Gate(name, "no champion", t, True, why) for name, t in thresholds.items()]
    if champion == version:
        why = f"version {version} is the champion"
        return [Gate(name, "champion", t, True, why) for name, t in thresholds.items()]
    if evidence.twin:
        why = f"version {version} is the same student as champion {champion}"
        return [Gate(name, "same student", t, True, why) for name, t in thresholds.items()]
    if evidence.incomparable:
        why = f"champion {champion} cannot be compared: {evidence.incomparable}"
        return [Gate(name, NOT_COMPARABLE, t, False, why) for name, t in thresholds.items()]
    if comparison is None or comparison.champion != champion:
        why = f"no comparison with champion {champion}"
        return [Gate(name, None, t, False, why) for name, t in thresholds.items()]
    return [_compared(name, t, comparison) for name, t in thresholds.items()]


def _compared(name: str, threshold: float, comparison: Comparison) -> Gate:
    """Passes where the bound of the difference, and so the difference, is on the right side."""
    alarm, champion = name == ALARM_GATE, comparison.champion
    what = FALSE_ALARMS if alarm else "F1"
    found = comparison.false_alarm_area if alarm else comparison.f1
    bound = finite(found.high if alarm else found.low)
    if bound is None:
        what = f"bound of the difference in {what} from champion {champion}"
        return _missing(name, threshold, what)
    ok = bound < threshold if alarm else bound > threshold
    side = "at most" if alarm else "at least"
    out = f", {comparison.left_out} left out" if comparison.left_out else ""
    reason = (
        f"{what} {found.candidate:.4f}, version {champion} {found.champion:.4f}: "
        f"differs by {found.value:+.4f}, {side} {bound:+.4f} (one-sided bound) "
        f"({found.n} photos of {found.groups} sources{out})"
    )
    return Gate(name, bound, threshold, ok, reason)
