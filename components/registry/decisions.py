"""The decision's page: one self-contained HTML file, what a person reads before approving.

What was measured stays as it was judged; what was decided since follows the ledger (`refresh`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from components.core import pages
from components.core.files import write_text
from components.core.paths import DECISIONS, state_dir
from components.registry import chain
from components.registry.chain import Event, Row
from components.registry.versions import registration, standings

if TYPE_CHECKING:  # they import OpenCV, or what projects the ledger onto these pages
    from components.evaluate.gallery import Example
    from components.registry.comparison import Difference
    from components.registry.gates import GateEvidence
    from components.registry.promotion import Decision

_HEAD = 65_536  # characters of a page, within which it says what was decided
_STANDING = re.compile(
    r'<section id="standing" data-gating="(\w+)" data-last="(\d+)">.*?</section>', re.DOTALL
)
_STYLES = {"champion": "good", "awaiting approval": "fair", "former champion": "fair"}
_WORDS = {
    Event.GATED: "version %s judged",
    Event.APPROVED: "version %s approved",
    Event.PROMOTED: "version %s made champion",
    Event.REJECTED: "version %s not promoted",
    Event.ROLLED_BACK: "rolled back to version %s",
}


def page_of(model: str, version: int) -> Path:
    """Where a version's decision page lies."""
    return _folder() / f"{model}-v{version}.html"


def _folder() -> Path:
    return state_dir() / DECISIONS


def shown(model: str, version: int) -> str | None:
    """The hash of the gating that a version's page shows; None where there is no such page."""
    found = _standing_of(page_of(model, version))
    return found[1] if found else None


def write(
    rows: Sequence[Row],
    decision: Decision,
    evidence: GateEvidence,
    sections: Mapping[str, list[Example]],
    reports: Mapping[str, Path],
) -> Path:
    """Write the page of a version's last gating, and beside it the version's evaluation reports.

    Args:
        rows: the model's ledger.
        decision: what came of the gating.
        evidence: that was judged.
        sections: photos (see `components.registry.exhibits`).
        reports: the stage's report by data set; the copies say which version they are of.

    Returns:
        The page's path.
    """
    from components.evaluate.report import identified

    model, version = decision.model, decision.version
    facts = _facts(registration(rows, version), evidence.record)
    links = {}
    for name, report in reports.items():
        copy = _folder() / f"{model}-v{version}.evaluation-{name}.html"
        said = {**facts, **_data(evidence.record, name)}
        write_text(copy, identified(report.read_text(encoding="utf-8"), said))
        links[name] = copy.name
    gated, _ = chain.last_gating(rows, version)
    standing = render_standing(rows, gated) if gated else ""
    path = page_of(model, version)
    write_text(path, render(decision, evidence, standing, sections, facts, links))
    return path


def _facts(born: Row, record: Mapping[str, Any] | None) -> dict[str, str]:
    facts = {"Version": f"{born.model}/{born.version}", "Registered": born.time}
    if record:
        facts["Git commit"] = record["git"]["commit"]
    return {**facts, "Program": f"boxpromptiml {installed('boxpromptiml')}"}


def _data(record: Mapping[str, Any] | None, name: str) -> dict[str, str]:
    """The data set's hash as DVC tracks it, where the record has one."""
    tracked = ((record or {}).get("datasets", {}).get(name, {}).get("dvc") or {}).get("outs", [])
    return {"Data set (DVC)": str(tracked[0]["md5"])} if tracked and "md5" in tracked[0] else {}


def render(
    decision: Decision,
    evidence: GateEvidence,
    standing: str,
    sections: Mapping[str, list[Example]],
    facts: Mapping[str, str],
    reports: Mapping[str, str],
) -> str:
    """The page as HTML; every text that came from outside is escaped.

    Args:
        decision: what came of the gating.
        evidence: that was judged.
        standing: from `render_standing`.
        sections: photos.
        facts: what names the version, in words.
        reports: file name of the evaluation report, by data set.
    """
    rival = evidence.comparison
    differences: list[tuple[str, Difference]] = []
    if rival:
        differences = [("F1", rival.f1), ("False-alarm area", rival.false_alarm_area)]
    datasets = (evidence.record or {}).get("datasets", {})
    data = {f"{what}: {n}": d for n in datasets for what, d in _data(evidence.record, n).items()}
    values = {
        "decision": decision,
        "standing": Markup(standing),  # noqa: S704 - a page's own part, escaped when it was made
        "rival": rival,
        "differences": differences,
        "sections": sections,
        "licences": evidence.licences or {},
        "facts": {**facts, **data},
        "hashes": evidence.hashes,
        "reports": reports,
    }
    return pages.render("decision.html", values, {"number": _number})


def refresh(model: str, rows: Sequence[Row]) -> None:
    """Bring what was decided, in every page of a model up to its ledger."""
    for page in _folder().glob(f"{model}-v*.html"):
        found = _standing_of(page)
        gated = next((row for row in rows if found and row.hash == found[1]), None)
        if found and gated and found[2] != str(_since(rows, gated)[-1].sequence):
            text = page.read_text(encoding="utf-8")
            write_text(page, text.replace(found[0], render_standing(rows, gated), 1))


def _standing_of(page: Path) -> re.Match[str] | None:
    """The part of a page that follows the ledger; None where there is none."""
    try:
        with open(page, encoding="utf-8") as file:
            head = file.read(_HEAD)
            return _STANDING.search(head) or _STANDING.search(head + file.read())
    except FileNotFoundError:
        return None


def _since(rows: Sequence[Row], gated: Row) -> list[Row]:
    """A gating and what followed it: for the version, and every later champion."""
    return [
        row
        for row in rows
        if row.sequence >= gated.sequence
        and (row.version == gated.version or row.event in chain.CHAMPION_EVENTS)
    ]


def render_standing(rows: Sequence[Row], gated: Row) -> str:
    """What a version is today and what was decided since its gating, as HTML."""
    status = next(s.status for s in standings(rows) if s.version == gated.version)
    since = _since(rows, gated)
    values = {
        "gating": gated.hash,
        "rows": since,
        "words": _WORDS,
        "status": status,
        "style": _STYLES.get(status, "poor"),
        "sentence": _sentence(rows, gated, since, status),
    }
    return pages.render("standing.html", values).strip()


def _sentence(rows: Sequence[Row], gated: Row, since: Sequence[Row], status: str) -> str:
    name, champions = (
        f"{gated.model}/{gated.version}",
        [r for r in rows if r.event in chain.CHAMPION_EVENTS],
    )
    keeps = (
        f"Version {champions[-1].version} is champion." if champions else "There is no champion."
    )
    if status == "awaiting approval":
        act = f"To promote it: iml model approve {name} --by NAME --reason WHY."
        return f"It passed every gate. {act} {keeps}"
    if status == "champion":
        return f"Since {_when(champions[-1])}"
    if status == "former champion":
        ended = next(r for r in reversed(champions) if r.previous_champion == gated.version)
        return f"Until {_when(ended)}. {keeps}"
    return f"{since[-1].reason if status == 'rejected' else 'There is no verdict yet'}. {keeps}"


def _when(row: Row) -> str:
    return f"{row.time[:10]}, by {row.actor}: {row.reason}"


def _number(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "–" if value is None else str(value)
