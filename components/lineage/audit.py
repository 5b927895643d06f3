"""An audit: every check over the evidence on one version, in the order of the chain.

    with collect("boxpromptiml@champion") as evidence:
        result = audit(evidence, deep=True)

Its page is one self-contained HTML file with the chain of evidence drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from components.core import pages
from components.core.progress import Progress
from components.lineage import deep_check
from components.lineage.checks import code, data, gates, registry, results, weights
from components.lineage.evidence import Evidence, UnknownError
from components.lineage.record import is_known
from components.lineage.verdict import LINKS, Audit, Finding, Verdict, broken, missing, worst

Check = Callable[[Evidence], Iterable[Finding]]
CHECKS: dict[str, Check] = {
    "ledger": registry.ledger,
    "alias": registry.alias,
    "version": registry.version,
    "signature": registry.signature,
    "run": registry.run,
    "record": registry.record,
    # Those that follow need the record.
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
_WITHOUT_RECORD = list(CHECKS)[: list(CHECKS).index("commit")]
_ODD = (KeyError, TypeError, ValueError, AttributeError, IndexError)  # of evidence of another shape

_WIDTH, _BOX, _HEIGHT, _GAP, _STEP = 980, 172, 46, 24, 78  # of the drawing, in pixels
_MARKS = {
    Verdict.VERIFIED: "✓",
    Verdict.BROKEN: "✗",
    Verdict.UNVERIFIABLE: "?",
    Verdict.REMARK: "!",
}


def audit(evidence: Evidence, *, deep: bool = False, progress: Progress | None = None) -> Audit:
    """Walk the chain.

    Args:
        evidence: the evidence.
        deep: fetch and hash every object of the remote too.
        progress: called with (objects hashed, objects in all).
    """
    checked = (finding for link in CHECKS for finding in check(link, evidence))
    found = list(dict.fromkeys(checked))  # two checks may need the same object
    hashed = deep_check.DeepCheck()
    if deep and evidence.has_record:
        try:
            hashed = deep_check.deep_check(evidence, progress)
        except _ODD as error:
            hashed = deep_check.DeepCheck([_unforeseen(evidence, error)])
    named = {finding.where for finding in found if finding.fault}
    found += [
        replace(finding, link="data")
        for finding in hashed.findings
        if not finding.fault or finding.where not in named
    ]
    return Audit(
        model=evidence.model,
        version=evidence.version,
        deep=deep,
        source=evidence.source,
        findings=found,
        objects=hashed.objects,
        bytes=hashed.bytes,
    )


def check(link: str, evidence: Evidence) -> list[Finding]:
    """The findings of a link's check; evidence of an unforeseen shape is broken evidence."""
    if link not in _WITHOUT_RECORD and not evidence.has_record:
        found = [missing("depends on the lineage record, which is missing or broken")]
    else:
        try:
            found = list(CHECKS[link](evidence))
        except UnknownError as error:
            found = [missing(error.what, error.where)]
        except _ODD as error:
            found = [_unforeseen(evidence, error)]
    return [replace(finding, link=link) for finding in found]


def _unforeseen(evidence: Evidence, error: Exception) -> Finding:
    what = f"the evidence has another shape ({type(error).__name__}: {error})"
    known = not evidence.has_record or is_known(evidence.record)
    return broken(what, evidence.name) if known else missing(what, evidence.name)


def render(result: Audit) -> str:
    """The page of an audit, as HTML; texts from outside are escaped."""
    found = result.by_link()
    values = {
        "audit": result,
        "links": [(name, LINKS[name][0], worst(found[name]), found[name]) for name in LINKS],
        "width": _WIDTH,
        "box": (_BOX, _HEIGHT),
        "marks": _MARKS,
        "wrong": [f for f in result.findings if f.fault],
        "remarks": result.of(Verdict.REMARK),
        "counts": {verdict: len(result.of(verdict)) for verdict in Verdict},
        **_drawing(),
    }
    return pages.render("audit.html", values)


def _drawing() -> dict[str, Any]:
    """Left and top of every link's box, curves to what it rests on (SVG), and the height."""
    depth: dict[str, int] = {}  # distance from the ledger
    for name, (_, rests) in LINKS.items():
        depth[name] = max((depth[other] + 1 for other in rests), default=0)
    levels = [[n for n in LINKS if depth[n] == level] for level in range(max(depth.values()) + 1)]
    places: dict[str, tuple[float, float]] = {}
    for level, names in enumerate(levels):
        left = (_WIDTH - len(names) * _BOX - (len(names) - 1) * _GAP) / 2
        for number, name in enumerate(names):
            places[name] = (left + number * (_BOX + _GAP), level * _STEP + 2.0)
    curves = []
    for name, (_, rests) in LINKS.items():
        x1, y1 = places[name][0] + _BOX / 2, places[name][1]
        for other in rests:
            x0, y0 = places[other][0] + _BOX / 2, places[other][1] + _HEIGHT
            bend = (y1 - y0) / 2
            curves.append(f"M{x0:g} {y0:g}C{x0:g} {y0 + bend:g} {x1:g} {y1 - bend:g} {x1:g} {y1:g}")
    height = len(levels) * _STEP - _STEP + _HEIGHT + 4
    return {"places": places, "edges": curves, "height": height}
