"""Promotion gates: pure functions of recorded evidence, each with value, threshold and reason.

Evidence that is missing, null or not finite fails its gate; no gate passes for want of evidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from components.params import Gates

CHAMPION = "not_worse_than_champion"


@dataclass(frozen=True)
class Gate:
    """One verdict.

    Attributes:
        name: what was judged.
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
class Comparison:
    """Candidate against champion over the same photos, both scored with today's code.

    Attributes:
        champion: the version it was compared with.
        candidate_f1, champion_f1: means over the manipulated photos.
        difference: mean of candidate minus champion, with `low` and `high` of its interval.
        n: photos compared.
    """

    champion: int
    candidate_f1: float | None
    champion_f1: float | None
    difference: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Evidence:
    """What the gates judge; what could not be read is None.

    Attributes:
        validation: `runs/validate/result.json`.
        metrics: `metrics.json` of the prepared data set.
        parity: `runs/export/parity.json`.
        dirty: uncommitted paths of the workspace.
        comparison: with the reigning champion; not needed when the version is the champion.
        champion: the reigning champion; None where there is none.
        hashes: SHA-256 by name of the files that the above was read from.
    """

    validation: Mapping[str, Any] | None
    metrics: Mapping[str, Any] | None
    parity: Mapping[str, Any] | None
    dirty: Sequence[str] | None
    comparison: Comparison | None
    champion: int | None
    hashes: Mapping[str, str]


def finite(value: Any) -> float | None:
    """A finite number as float; None for everything else (a bool is no measurement)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def measured(metrics: Mapping[str, Any] | None, name: str) -> float | None:
    """The value of one metric of a `metrics.json`, or None."""
    block = (metrics or {}).get(name)
    return finite(block.get("value")) if isinstance(block, Mapping) else None


def _missing(name: str, threshold: float | None, what: str) -> Gate:
    return Gate(name, None, threshold, False, f"no finite {what} is recorded")


def at_least(name: str, what: str, value: float | None, threshold: float) -> Gate:
    """Passes a finite value that is not below the threshold."""
    value = finite(value)
    if value is None:
        return _missing(name, threshold, what)
    passed = value >= threshold
    verb = "reaches" if passed else "is below"
    return Gate(name, value, threshold, passed, f"{what} {value:.4g} {verb} {threshold:.4g}")


def at_most(name: str, what: str, value: float | None, threshold: float) -> Gate:
    """Passes a finite value that is not above the threshold."""
    value = finite(value)
    if value is None:
        return _missing(name, threshold, what)
    passed = value <= threshold
    verb = "is within" if passed else "is above"
    return Gate(name, value, threshold, passed, f"{what} {value:.4g} {verb} {threshold:.4g}")


def said_yes(name: str, what: str, result: Mapping[str, Any] | None) -> Gate:
    """Passes a recorded result whose `passed` is true, and nothing else."""
    answer = (result or {}).get("passed")
    if not isinstance(answer, bool):
        return Gate(name, None, None, False, f"no result of {what} is recorded")
    verdict = "passed" if answer else "failed"
    return Gate(name, verdict, "passed", answer, f"{what} {verdict}")


def onnx_parity(parity: Mapping[str, Any] | None) -> Gate:
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


def workspace_clean(dirty: Sequence[str] | None, required: bool) -> Gate:
    """Passes a clean workspace; an unclean one warns unless cleanliness is required."""
    name = "workspace_clean"
    if dirty is None:
        return Gate(name, None, "clean", False, "the state of the workspace is not recorded")
    if not dirty:
        return Gate(name, "clean", "clean", True, "no uncommitted change")
    more = f" and {len(dirty) - 1} more" if len(dirty) > 1 else ""
    reason = f"uncommitted: {dirty[0]}{more}; the version cannot be made again from git alone"
    return Gate(name, f"{len(dirty)} changed", "clean", not required, reason, warning=not required)


def not_worse_than_champion(
    version: int, champion: int | None, comparison: Comparison | None, margin: float
) -> Gate:
    """Passes a candidate whose F1 is at most `margin` below the champion's on the same photos.

    The point difference decides; its interval is in the reason. A first champion has nobody to be
    compared with and is judged by the absolute thresholds alone.
    """
    name = CHAMPION
    if champion is None:
        return Gate(name, "no champion", -margin, True, "the first champion is not compared")
    if champion == version:
        return Gate(name, "champion", -margin, True, f"version {version} is the champion")
    if comparison is None or comparison.champion != champion:
        return Gate(name, None, -margin, False, f"no comparison with champion {champion}")
    difference = finite(comparison.difference)
    if difference is None:
        return _missing(name, -margin, f"difference in F1 from champion {champion}")
    passed = difference >= -margin
    low, high = finite(comparison.low), finite(comparison.high)
    spread = "" if low is None or high is None else f" (interval {low:+.4f} to {high:+.4f})"
    verb = "is not worse than" if passed else "is worse than"
    reason = f"F1 differs by {difference:+.4f}{spread} over {comparison.n} photos"
    return Gate(name, difference, -margin, passed, f"{verb} version {champion}: {reason}")


def judge(version: int, evidence: Evidence, gates: Gates) -> list[Gate]:
    """Every gate's verdict, in the order in which they are shown."""
    metrics = evidence.metrics
    return [
        said_yes("data_validation", "data validation", evidence.validation),
        at_least("min_f1", "F1", measured(metrics, "f1"), gates.min_f1),
        at_least("min_image_auc", "image AUC", measured(metrics, "image_auc"), gates.min_image_auc),
        at_most(
            "max_false_alarm_area",
            "false-alarm area",
            measured(metrics, "false_alarm_area"),
            gates.max_false_alarm_area,
        ),
        onnx_parity(evidence.parity),
        workspace_clean(evidence.dirty, gates.require_clean),
        not_worse_than_champion(
            version, evidence.champion, evidence.comparison, gates.champion_margin
        ),
    ]


def passed(verdicts: Sequence[Gate]) -> bool:
    """Whether every gate passed; no verdict at all is a no."""
    return bool(verdicts) and all(gate.passed for gate in verdicts)
