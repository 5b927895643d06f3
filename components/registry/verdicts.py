"""Verdicts: how one piece of evidence is judged; pure functions.

GateEvidence that is missing, null or not finite fails; nothing passes for want of evidence.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


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


def finite(value: Any) -> float | None:
    """A finite number as float; None for everything else (a bool is no measurement)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def measured(metrics: Mapping[str, Any] | None, name: str) -> float | None:
    """The value of one metric of a `metrics.json`, or None."""
    block = (metrics or {}).get(name)
    return finite(block.get("value")) if isinstance(block, Mapping) else None


def without_truth(metrics: Mapping[str, Any] | None) -> str | None:
    """Why a `metrics.json` has no F1, where no manipulated photo had a true mask; else None."""
    said = metrics or {}
    photos, without = finite(said.get("n_manipulated")), finite(said.get("n_without_mask"))
    if photos is None or photos != without:
        return None
    return f"F1 is not measured: 0 of {photos:.0f} manipulated test photos have a true mask"


def missing(name: str, threshold: float | str | None, what: str) -> Gate:
    """Fails for want of evidence."""
    return Gate(name, None, threshold, False, f"no finite {what} is recorded")


def at_least(name: str, what: str, value: float | None, threshold: float) -> Gate:
    """Passes a finite value that is not below the threshold."""
    value = finite(value)
    if value is None:
        return missing(name, threshold, what)
    passed = value >= threshold
    verb = "reaches" if passed else "is below"
    return Gate(name, value, threshold, passed, f"{what} {value:.4g} {verb} {threshold:.4g}")


def at_most(name: str, what: str, value: float | None, threshold: float) -> Gate:
    """Passes a finite value that is not above the threshold."""
    value = finite(value)
    if value is None:
        return missing(name, threshold, what)
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
        return missing(name, None, "tolerance of the ONNX export")
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


def robustness_kept(metrics: Mapping[str, Any] | None) -> float | None:
    """Mean F1 over every recorded distortion, as a share of the F1 on the photos as they are.

    Reads the block `robustness` of a `metrics.json`, however its distortions and levels nest: each
    level is a mapping with `f1`. None where a level has no finite F1, or the plain F1 is 0.
    """
    plain = measured(metrics, "f1")
    levels = list(_levels((metrics or {}).get("robustness")))
    known = [value for value in levels if value is not None]
    if not plain or not known or len(known) != len(levels):
        return None
    return sum(known) / len(known) / plain


def _levels(block: Any) -> list[float | None]:
    """The F1 of every level of nested distortions."""
    if isinstance(block, Mapping) and "f1" in block:
        found = block["f1"]
        return [finite(found.get("value") if isinstance(found, Mapping) else found)]
    parts: Any = block.values() if isinstance(block, Mapping) else block
    if not isinstance(block, Mapping | list):
        return []
    return [value for part in parts for value in _levels(part)]


def lineage_complete(record: Mapping[str, Any] | None) -> Gate:
    """Passes a lineage record in which nothing is missing that an audit follows."""
    name = "lineage_complete"
    if record is None:
        return Gate(name, None, "complete", False, "the lineage record could not be read")
    gaps = [what for what, there in _links(record) if not there]
    if gaps:
        reason = f"the lineage record lacks {', '.join(gaps)}"
        return Gate(name, f"{len(gaps)} missing", "complete", False, reason)
    return Gate(name, "complete", "complete", True, "every link is recorded")


def _links(record: Mapping[str, Any]) -> list[tuple[str, bool]]:
    data, evaluation = record.get("datasets"), record.get("evaluation")
    return [
        ("the git commit", bool(_get(record, "git", "commit"))),
        ("dvc.lock", bool(_get(record, "dvc_lock", "sha256"))),
        ("the stages", _each(record.get("stages"), "outs")),
        ("the data sets", _each(_values(data), "licence")),
        ("the teacher", bool(_get(record, "teacher", "sha256"))),
        ("the validation", bool(_get(record, "validation", "sha256"))),
        ("the evaluation", _each(_values(evaluation), "sha256")),
        ("the student's files", bool(record.get("files"))),
        ("the packages", bool(_get(record, "environment", "packages"))),
        ("seeds and threads", bool(record.get("seeds_and_threads"))),
    ]


def _values(block: Any) -> list[Any]:
    return list(block.values()) if isinstance(block, Mapping) else []


def _each(entries: Any, name: str) -> bool:
    """Whether there are entries, each with something under this name."""
    rows = entries if isinstance(entries, list) else []
    return bool(rows) and all(isinstance(row, Mapping) and row.get(name) for row in rows)


def _get(record: Mapping[str, Any], block: str, name: str) -> Any:
    found = record.get(block)
    return found.get(name) if isinstance(found, Mapping) else None


def signature_valid(signer: str | None, problem: str) -> Gate:
    """Passes a version whose folder was fetched and verified against its signature."""
    name = "signature_valid"
    if signer is None:
        return Gate(name, None, "valid", False, problem or "the signature was not checked")
    return Gate(name, "valid", "valid", True, f"signed with key {signer[:16]}")


def licences_allowed(found: Mapping[str, str] | None, allowed: Collection[str]) -> Gate:
    """Passes where every licence of data and weights is one of those allowed.

    Args:
        found: licence by what it belongs to; see `components.registry.licences`.
        allowed: exact texts.
    """
    name, asked = "licences_allowed", ", ".join(sorted(allowed))
    if not found:
        return Gate(name, None, asked, False, "no licence is recorded")
    wrong = {what: licence for what, licence in found.items() if licence not in allowed}
    if wrong:
        reason = "; ".join(f"{what} is {licence!r}" for what, licence in sorted(wrong.items()))
        return Gate(name, f"{len(wrong)} not allowed", asked, False, f"not allowed: {reason}")
    return Gate(name, "all allowed", asked, True, f"{len(found)} licences, all allowed")
