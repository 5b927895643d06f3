"""The result of an audit: findings, each about one link of the chain of evidence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """The result of a check."""

    VERIFIED = "verified"
    BROKEN = "broken"
    UNVERIFIABLE = "unverifiable"
    REMARK = "remark"  # nothing is wrong, but a person should know


Pair = tuple[str, object, object]  # place, expected, found
_WORSE = (Verdict.VERIFIED, Verdict.UNVERIFIABLE, Verdict.BROKEN)

# The chain, in the order in which it is walked and shown: link -> (title, what it rests on).
LINKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ledger": ("Ledger", ()),
    "alias": ("Alias", ("ledger",)),
    "version": ("Version", ("ledger",)),
    "signature": ("Signature", ("version",)),
    "run": ("Run", ("version",)),
    "record": ("Lineage record", ("run",)),
    "commit": ("Commit", ("record",)),
    "dvc.lock": ("dvc.lock", ("record", "commit")),
    "stages": ("Stages", ("dvc.lock", "commit")),
    "data": ("Photos and boxes", ("stages",)),
    "teacher": ("Teacher", ("stages",)),
    "backbone": ("Backbone", ("stages",)),
    "validation": ("Validation", ("stages",)),
    "evaluation": ("Evaluation", ("stages", "run")),
    "gates": ("Gates", ("ledger", "validation", "evaluation")),
}


@dataclass(frozen=True)
class Finding:
    """One result of one check.

    Attributes:
        link: a name of `LINKS`; empty until the audit adds it.
        verdict: verified | broken | unverifiable | remark.
        what: one sentence: what was recomputed, what is wrong, or what is missing.
        where: the file, row, tag or object; empty where the link itself is meant.
        expected, found: both sides of a comparison that failed.
    """

    link: str
    verdict: Verdict
    what: str
    where: str = ""
    expected: str | None = None
    found: str | None = None

    @property
    def fault(self) -> bool:
        """Whether something is broken or cannot be verified."""
        return self.verdict in (Verdict.BROKEN, Verdict.UNVERIFIABLE)

    def line(self) -> str:
        """On one line, for people."""
        sides = f" (expected {self.expected}, found {self.found})" if self.expected else ""
        place = f"{self.where}: " if self.where else ""
        return f"{self.link}: {place}{self.what}{sides}"


def verified(what: str, where: str = "") -> Finding:
    """A check that passed."""
    return Finding("", Verdict.VERIFIED, what, where)


def remark(what: str, where: str = "") -> Finding:
    """What a person should know, and what is no fault."""
    return Finding("", Verdict.REMARK, what, where)


def missing(what: str, where: str = "") -> Finding:
    """A check for which evidence is missing."""
    return Finding("", Verdict.UNVERIFIABLE, what, where)


def broken(what: str, where: str = "", expected: object = None, found: object = None) -> Finding:
    """A check that failed."""
    sides = (None, None) if expected is None else (_short(expected), _short(found))
    return Finding("", Verdict.BROKEN, what, where, *sides)


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 200 else f"{text[:197]}..."


def close(one: float | None, other: float | None) -> bool:
    """Equal but for the order of a sum."""
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)


def compared(what: str, where: str, pairs: Iterable[Pair]) -> list[Finding]:
    """One finding for each pair (place, expected, found) that differs; else one verified.

    Args:
        what: what the pairs are, for the finding where all agree.
        where: what the places belong to.
        pairs: None as found means that it is missing.
    """
    bad, count = [], 0
    for place, expected, found in pairs:
        count += 1
        spot = f"{where} {place}".strip()
        if found is None and expected is not None:
            bad.append(missing("is missing", spot))
        elif expected != found:
            bad.append(broken("is not what was recorded", spot, expected, found))
    return bad or [verified(f"{what} ({count})", where)]


@dataclass(frozen=True)
class Audit:
    """The result of an audit of one version."""

    model: str
    version: int
    deep: bool  # whether every object was fetched and hashed
    source: str  # of the evidence
    findings: Sequence[Finding]  # in the order of the chain
    objects: int = 0  # hashed, and their size; 0 unless deep
    bytes: int = 0

    @property
    def verdict(self) -> Verdict:
        """The worst of all."""
        return worst(self.findings)

    @property
    def exit_code(self) -> int:
        """0 all verified, 1 something is broken, 2 something cannot be verified."""
        return {Verdict.VERIFIED: 0, Verdict.BROKEN: 1, Verdict.UNVERIFIABLE: 2}[self.verdict]

    @property
    def left_out(self) -> str:
        """What was not looked at."""
        return "" if self.deep else "photos and outputs not hashed: --deep"

    def by_link(self) -> dict[str, list[Finding]]:
        """The findings of every link, in the order of the chain."""
        return {name: [f for f in self.findings if f.link == name] for name in LINKS}

    def of(self, verdict: Verdict) -> list[Finding]:
        """The findings with this verdict."""
        return [finding for finding in self.findings if finding.verdict == verdict]

    def sentence(self) -> str:
        """The outcome for people."""
        name = f"{self.model}/{self.version}"
        bad, lost = self.of(Verdict.BROKEN), self.of(Verdict.UNVERIFIABLE)
        if first := bad or lost:
            outcome = "is broken" if bad else "cannot be verified in full"
            more = f" (and {len(first) - 1} more)" if len(first) > 1 else ""
            return f"{name} {outcome}: {first[0].line()}{more}"
        how = f"; {self.left_out}" if self.left_out else f", {self.objects} objects hashed again"
        return f"{name} is verified: all {len(LINKS)} links hold{how}."

    def row(self) -> dict[str, Any]:
        """As plain JSON."""
        links = {
            name: {"verdict": worst(found), "findings": [asdict(f) for f in found]}
            for name, found in self.by_link().items()
        }
        return {
            "model": self.model,
            "version": self.version,
            "verdict": self.verdict,
            "sentence": self.sentence(),
            "deep": self.deep,
            "left_out": self.left_out,
            "source": self.source,
            "objects": self.objects,
            "bytes": self.bytes,
            "links": links,
        }


def worst(findings: Iterable[Finding]) -> Verdict:
    """The worst verdict, remarks aside; nothing checked is unverifiable."""
    verdicts = (finding.verdict for finding in findings if finding.verdict != Verdict.REMARK)
    return max(verdicts, key=_WORSE.index, default=Verdict.UNVERIFIABLE)
