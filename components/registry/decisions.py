"""The decision's page: one self-contained HTML file, what a person reads before approving.

What was measured stays as it was; what was decided since follows the ledger (`refresh`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from components.core import pages
from components.core.files import write_text
from components.core.paths import DECISIONS, state_dir
from components.data.manifest import AUTHENTIC
from components.registry import chain
from components.registry.chain import Event, Row
from components.registry.versions import registration, states

if TYPE_CHECKING:  # they import OpenCV, or what makes these pages follow the ledger
    import pandas as pd

    from components.evaluate.gallery import Album, Example
    from components.evaluate.run import Predict
    from components.registry.gates import GateEvidence
    from components.registry.promotion import Decision

WORST, BEST, ALARMS, DIFFERENT = 20, 8, 12, 12  # photos of each section
_HEAD = 65_536  # characters of a page, within which it says what was decided
_STATUS = re.compile(
    r'<section id="standing" data-gating="(\w+)" data-last="(\d+)">.*?</section>', re.DOTALL
)
_STYLES = {"champion": "good", "awaiting approval": "fair", "former champion": "fair"}
_WORDS = {
    Event.GATED: "gates applied to version %s",
    Event.APPROVED: "version %s approved",
    Event.PROMOTED: "version %s made champion",
    Event.REJECTED: "version %s not promoted",
    Event.ROLLED_BACK: "rolled back to version %s",
    Event.WITHDRAWN: "version %s found missing from MLflow",
    Event.CONFIRMED: "version %s made again",
}


@dataclass(frozen=True)
class Exhibit:
    """A version's results on the test photos (`components.evaluate.run.IMAGES`), and its model."""

    version: int
    images: pd.DataFrame
    predict: Predict


def photos(album: Album, candidate: Exhibit, champion: Exhibit | None) -> dict[str, list[Example]]:
    """Photos by section, with the answers of both side by side where both were scored.

    The champion's results are of the photos on which the two were compared.
    """
    from components.evaluate.gallery import Example
    from components.evaluate.report import by_f1, by_false_alarm, facts

    ranked = by_f1(candidate.images)
    picked = {
        f"Worst {WORST} by F1": ranked[:WORST],
        "Largest false alarms": by_false_alarm(candidate.images)[:ALARMS],
        "Best": ranked[WORST:][::-1][:BEST],
    }
    title = f"version {candidate.version}"
    models, rows = {title: candidate.predict}, {title: _rows(candidate)}
    both: list[str] = []
    if champion is not None:
        name = f"champion {champion.version}"
        models[name], rows[name] = champion.predict, _rows(champion)
        both = champion.images["image_id"].tolist()
        differing = _most_different(rows[title], rows[name])
        picked = {"Where the two differ most": differing[:DIFFERENT], **picked}
    names = [name for section in picked.values() for name in section]
    drawn = album.draw([n for n in names if n in both], models)
    drawn |= album.draw([n for n in names if n not in both], {title: candidate.predict})
    words = {
        name: "; ".join(f"{who}: {facts(of[name])}" for who, of in rows.items() if name in of)
        for name in names
    }
    return {
        section: [Example(name, words[name], drawn[name]) for name in found]
        for section, found in picked.items()
        if found
    }


def _rows(exhibit: Exhibit) -> dict[str, dict[str, Any]]:
    rows: Any = exhibit.images.set_index("image_id", drop=False).to_dict("index")
    return rows


def _most_different(
    ours: Mapping[str, Mapping[str, Any]], theirs: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Photos by how far the two are apart in F1 or, where authentic, in false-alarm area."""
    apart: dict[str, float] = {}
    for name, row in theirs.items():
        measure = "false_alarm_area" if row["label"] == AUTHENTIC else "f1"
        difference = abs(ours[name][measure] - row[measure])
        if difference > 0:  # neither equal nor unknown
            apart[name] = difference
    return sorted(apart, key=lambda name: (-apart[name], name))


def shown(model: str, version: int) -> str | None:
    """The hash of the gating that a version's page shows; None where there is no such page."""
    found = _status_of(_page(model, version))
    return found[1] if found else None


def write(
    rows: Sequence[Row],
    decision: Decision,
    evidence: GateEvidence,
    sections: Mapping[str, list[Example]],
    reports: Mapping[str, Path],
) -> Path:
    """Write the page of a version's last gating, and beside it the version's evaluation reports.

    Gives the page's path. Every text that came from outside is escaped.

    Args:
        rows: the model's ledger.
        decision: on the evidence.
        evidence: what the gates were applied to.
        sections: from `photos`.
        reports: the stage's report by data set; the copies say which version they are of.
    """
    from components.evaluate.report import identified

    model, version, record = decision.model, decision.version, evidence.record or {}
    page = _page(model, version)
    facts = {"Version": f"{model}/{version}", "Registered": registration(rows, version).time}
    if record:
        facts["Git commit"] = record["git"]["commit"]
    facts["Program"] = f"boxpromptiml {installed('boxpromptiml')}"
    links = {}
    for name, report in reports.items():
        copy = page.with_name(f"{model}-v{version}.evaluation-{name}.html")
        text = identified(report.read_text(encoding="utf-8"), {**facts, **_data(record, name)})
        write_text(copy, text)
        links[name] = copy.name
    data = {
        f"{what}: {name}": value
        for name in record.get("datasets", {})
        for what, value in _data(record, name).items()
    }
    gated, _ = chain.last_gating(rows, version)
    comparison = evidence.comparison
    values = {
        "decision": decision,
        # A page's own part, escaped when it was made.
        "status": Markup(_render_status(rows, gated) if gated else ""),  # noqa: S704
        "comparison": comparison,
        "differences": {"F1": comparison.f1, "False-alarm area": comparison.false_alarm_area}
        if comparison
        else {},
        "sections": sections,
        "licences": evidence.licences or {},
        "facts": {**facts, **data},
        "hashes": evidence.hashes,
        "reports": links,
    }
    write_text(page, pages.render("decision.html", values, {"number": _number}))
    return page


def refresh(model: str, rows: Sequence[Row]) -> None:
    """Bring what was decided, in every page of a model, up to its ledger."""
    for page in _folder().glob(f"{model}-v*.html"):
        found = _status_of(page)
        gated = next((row for row in rows if found and row.hash == found[1]), None)
        if found and gated and found[2] != str(_since(rows, gated)[-1].sequence):
            text = page.read_text(encoding="utf-8")
            write_text(page, text.replace(found[0], _render_status(rows, gated), 1))


def _folder() -> Path:
    return state_dir() / DECISIONS


def _page(model: str, version: int) -> Path:
    return _folder() / f"{model}-v{version}.html"


def _data(record: Mapping[str, Any], name: str) -> dict[str, str]:
    """The data set's hash as DVC tracks it, where the record has one."""
    tracked = (record.get("datasets", {}).get(name, {}).get("dvc") or {}).get("outs", [])
    return {"Data set (DVC)": str(tracked[0]["md5"])} if tracked and "md5" in tracked[0] else {}


def _status_of(page: Path) -> re.Match[str] | None:
    """The part of a page that follows the ledger; None where there is none."""
    try:
        with open(page, encoding="utf-8") as file:
            head = file.read(_HEAD)
            return _STATUS.search(head) or _STATUS.search(head + file.read())
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


def _render_status(rows: Sequence[Row], gated: Row) -> str:
    """What a version is today and what was decided since its gating, as HTML."""
    status = next(s.status for s in states(rows) if s.version == gated.version)
    since = _since(rows, gated)
    values = {
        "gating": gated.hash,
        "rows": since,
        "words": _WORDS,
        "status": status,
        "style": _STYLES.get(status, "poor"),
        "overruled": chain.overruled(rows, gated),
        "sentence": _sentence(rows, gated, since, status),
    }
    return pages.render("decision_status.html", values).strip()


def _sentence(rows: Sequence[Row], gated: Row, since: Sequence[Row], status: str) -> str:
    champions = [row for row in rows if row.event in chain.CHAMPION_EVENTS]
    keeps = (
        f"Version {champions[-1].version} is champion." if champions else "There is no champion."
    )
    if status == "awaiting approval":
        name = f"{gated.model}/{gated.version}"
        act = f"To promote it: iml model approve {name} --by NAME --reason WHY."
        return f"It passed every gate. {act} {keeps}"
    if status == "champion":
        return f"Since {_when(champions[-1])}"
    if status == "former champion":
        ended = next(r for r in reversed(champions) if r.previous_champion == gated.version)
        return f"Until {_when(ended)}. {keeps}"
    if status != "rejected":
        return f"There is no verdict yet. {keeps}"
    no = next(row for row in reversed(since) if row.event == Event.REJECTED)
    more = f" {chain.how_to_overrule(gated)}" if chain.incomparable(gated) else ""
    return f"{no.reason}. {keeps}{more}"


def _when(row: Row) -> str:
    return f"{row.time[:10]}, by {row.actor}: {row.reason}"


def _number(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "–" if value is None else str(value)
