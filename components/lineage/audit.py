"""An audit: every check over the evidence on one version, in the order of the chain.

with gather("boxpromptiml@champion") as case:
answer = audit(case, deep=True)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from components.lineage import sweep
from components.lineage.case import Case
from components.lineage.checks import code, data, gates, registry, results, weights
from components.lineage.verdict import Audit, Finding, Verdict, broken

Check = Callable[[Case], Sequence[Finding]]
CHECKS: dict[str, Check] = {
    "ledger": registry.ledger,
    "alias": registry.alias,
    "version": registry.version,
    "signature": registry.signature,
    "run": registry.run,
    "record": registry.record,
    "commit": code.commit,
    "dvc.lock": code.dvc_lock,
    "stages": code.stages,
    "data": data.data,
    "teacher": weights.teacher,
    "backbone": weights.backbone,
    "validation": results.validation,
    "evaluation": results.evaluation,
    "gates": gates.gates,
}

_ODD = (KeyError, TypeError, ValueError, AttributeError, IndexError)  # of evidence of another shape


def audit(case: Case, *, deep: bool = False, progress: sweep.Progress | None = None) -> Audit:
    """Walk the chain.

    Args:
        case: the evidence.
        deep: fetch and hash every object of the remote too.
        progress: called with (objects hashed, objects in all).
    """
    checked = (finding for link in CHECKS for finding in check(link, case))
    found = list(dict.fromkeys(checked))  # two checks may need the same object
    swept = sweep.Swept([], 0, 0)
    if deep and case.record and case.objects:
        try:
            swept = sweep.sweep(case, progress)
        except _ODD as error:
            swept = sweep.Swept([_unforeseen("data", case, error)], 0, 0)
        told = {finding.where for finding in found if finding.verdict != Verdict.VERIFIED}
        found += [f for f in swept.findings if f.verdict == Verdict.VERIFIED or f.where not in told]
    return Audit(
        model=case.model,
        version=case.version,
        deep=deep,
        source=case.source,
        findings=found,
        objects=swept.objects,
        bytes=swept.bytes,
    )


def check(link: str, case: Case) -> Sequence[Finding]:
    """What a link's check finds; evidence of a shape that nobody foresaw is broken evidence."""
    try:
        return CHECKS[link](case)
    except _ODD as error:
        return [_unforeseen(link, case, error)]


def _unforeseen(link: str, case: Case, error: Exception) -> Finding:
    what = f"the evidence has another shape ({type(error).__name__}: {error})"
    return broken(link, what, case.name)
