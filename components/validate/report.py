"""What validation found: plain values, as result.json and as one error line."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from components.core.errors import InputError
from components.validate.checks import Severity

TOLD = 3  # failed checks told in the error line; the page has all


def shown(name: str) -> str:
    """A name that came from outside, safe to print: control characters are escaped."""
    return name if name.isprintable() else name.encode("unicode_escape").decode()


@dataclass(frozen=True)
class Result:
    """The outcome of one check.

    Attributes:
        name: the check's key.
        severity: "critical" or "warning".
        passed: whether no row failed.
        rows_checked: rows that the check could judge.
        rows_failed: rows among them that fail.
        examples: the first failing rows by name, each once, at most 20.
        threshold: the number of params.yaml behind the check, if any.
        sentence: the outcome in plain words.
        hint: what to do when it failed.
    """

    name: str
    severity: Severity
    passed: bool
    rows_checked: int
    rows_failed: int
    examples: tuple[str, ...]
    threshold: float | None
    sentence: str
    hint: str


@dataclass(frozen=True)
class Report:
    """The outcome of all checks on one data set, and how many photos and boxes it has."""

    dataset: str
    photos: int
    boxes: int
    checks: tuple[Result, ...]

    @property
    def critical(self) -> tuple[Result, ...]:
        """Critical checks that failed."""
        return tuple(r for r in self.checks if not r.passed and r.severity == "critical")

    @property
    def warnings(self) -> tuple[Result, ...]:
        """Other checks that failed."""
        return tuple(r for r in self.checks if not r.passed and r.severity == "warning")

    @property
    def passed(self) -> bool:
        """Whether the pipeline may go on."""
        return not self.critical

    def values(self) -> dict[str, Any]:
        """The JSON of the report: numbers first, which DVC shows as metrics, then the details."""
        return {
            "passed": self.passed,
            "critical_failed": len(self.critical),
            "warnings": len(self.warnings),
            "photos": self.photos,
            "boxes": self.boxes,
            "checks": {result.name: result.rows_failed for result in self.checks},
            "dataset": self.dataset,
            "details": [asdict(result) for result in self.checks],
        }

    def require(self, page: str) -> None:
        """Raise InputError with rows and hint of the critical checks that failed."""
        if self.passed:
            return
        told = [f"{result.sentence}, {result.hint}" for result in self.critical[:TOLD]]
        if len(self.critical) > TOLD:
            told.append(f"and {len(self.critical) - TOLD} more critical checks failed")
        raise InputError("; ".join(told), where=f"data/{self.dataset}", hint=f"see {page}")
