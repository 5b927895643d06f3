"""The decision's page: one self-contained HTML file, what a person reads before approving."""

from __future__ import annotations

from pathlib import Path

from components import pages
from components.files import state_dir, write_text
from components.registry.gates import Evidence
from components.registry.promotion import Decision
from components.registry.rivalry import Difference


def page_of(model: str, version: int) -> Path:
    """Where a version's decision page lies."""
    return state_dir() / "decisions" / f"{model}-v{version}.html"


def write(decision: Decision, evidence: Evidence) -> Path:
    """Write the page of a version's last decision; gives its path."""
    path = page_of(decision.model, decision.version)
    write_text(path, render(decision, evidence))
    return path


def render(decision: Decision, evidence: Evidence) -> str:
    """The page as HTML; every text that came from outside is escaped."""
    rival = evidence.comparison
    differences: list[tuple[str, Difference]] = []
    if rival:
        differences = [("F1", rival.f1), ("False-alarm area", rival.false_alarm_area)]
    values = {
        "decision": decision,
        "rival": rival,
        "differences": differences,
        "licences": evidence.licences or {},
        "record": evidence.record,
        "hashes": evidence.hashes,
    }
    return pages.render(Path(__file__).with_name("decision.html"), values, {"number": _number})


def _number(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "–" if value is None else str(value)
