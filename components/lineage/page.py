"""The audit page: one self-contained HTML file with the chain of evidence drawn."""

from __future__ import annotations

from components.core import pages
from components.lineage.verdict import LINKS, Audit, Verdict, worst

_WIDTH, _BOX, _HEIGHT, _GAP, _STEP = 980, 172, 46, 24, 78
_MARKS = {Verdict.VERIFIED: "✓", Verdict.BROKEN: "✗", Verdict.UNVERIFIABLE: "?"}


def _levels() -> list[list[str]]:
    """Links by their distance from the ledger."""
    depth: dict[str, int] = {}
    for name, (_, rests) in LINKS.items():
        depth[name] = max((depth[other] + 1 for other in rests), default=0)
    return [[n for n in LINKS if depth[n] == level] for level in range(max(depth.values()) + 1)]


def _places() -> dict[str, tuple[float, float]]:
    """Left and top of every link's box, in pixels."""
    places = {}
    for level, names in enumerate(_levels()):
        left = (_WIDTH - len(names) * _BOX - (len(names) - 1) * _GAP) / 2
        for number, name in enumerate(names):
            places[name] = (left + number * (_BOX + _GAP), level * _STEP + 2.0)
    return places


def _edges(places: dict[str, tuple[float, float]]) -> list[str]:
    """A curve for every link and what it rests on, as SVG paths."""
    curves = []
    for name, (_, rests) in LINKS.items():
        x1, y1 = places[name][0] + _BOX / 2, places[name][1]
        for other in rests:
            x0, y0 = places[other][0] + _BOX / 2, places[other][1] + _HEIGHT
            bend = (y1 - y0) / 2
            curves.append(f"M{x0:g} {y0:g}C{x0:g} {y0 + bend:g} {x1:g} {y1 - bend:g} {x1:g} {y1:g}")
    return curves


def render(audit: Audit) -> str:
    """The page of an audit, as HTML; texts from outside are escaped."""
    places = _places()
    found = audit.by_link()
    verdicts = {name: worst(f.verdict for f in found[name]) for name in LINKS}
    values = {
        "audit": audit,
        "links": [(name, LINKS[name][0], verdicts[name], found[name]) for name in LINKS],
        "places": places,
        "edges": _edges(places),
        "width": _WIDTH,
        "height": len(_levels()) * _STEP - _STEP + _HEIGHT + 4,
        "box": (_BOX, _HEIGHT),
        "marks": _MARKS,
        "wrong": [f for f in audit.findings if f.verdict != Verdict.VERIFIED],
        "counts": {verdict: len(audit.of(verdict)) for verdict in Verdict},
    }
    return pages.render("audit.html", values)
