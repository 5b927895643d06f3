"""An audit: every check over the evidence on one version, in the order of the chain.

with collect("boxpromptiml@champion") as evidence:
answer = audit(evidence, deep=True)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from components.core.progress import Progress
from components.lineage import deep_check
from components.lineage.checks import code, data, gates, registry, results, weights
from components.lineage.evidence import Evidence
from components.lineage.verdict import Audit, Finding, Verdict, broken

Check = Callable[[Evidence], Sequence[Finding]]
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


def audit(evidence: Evidence, *, deep: bool = False, progress: Progress | None = None) -> Audit:
    """Walk the chain.

    Args:
        evidence: the evidence.
        deep: fetch and hash every object of the remote too.
        progress: called with (objects hashed, objects in all).
    """
    checked = (finding for link in CHECKS for finding in check(link, evidence))
    found = list(dict.fromkeys(checked))  # two checks may need the same object
    swept = deep_check.DeepCheck([], 0, 0)
    if deep and evidence.record and evidence.objects:
        try:
            swept = deep_check.deep_check(evidence, progress)
        except _ODD as error:
            swept = deep_check.DeepCheck([_unforeseen("data", evidence, error)], 0, 0)
        told = {finding.where for finding in found if finding.verdict != Verdict.VERIFIED}
        found += [f for f in swept.findings if f.verdict == Verdict.VERIFIED or f.where not in told]
    return Audit(
        model=evidence.model,
        version=evidence.version,
        deep=deep,
        source=evidence.source,
        findings=found,
        objects=swept.objects,
        bytes=swept.bytes,
    )


def check(link: str, evidence: Evidence) -> Sequence[Finding]:
    """What a link's check finds; evidence of a shape that nobody foresaw is broken evidence."""
    try:
        return CHECKS[link](evidence)
    except _ODD as error:
        return [_unforeseen(link, evidence, error)]


def _unforeseen(link: str, evidence: Evidence, error: Exception) -> Finding:
    what = f"the evidence has another shape ({type(error).__name__}: {error})"
    return broken(link, what, evidence.name)
