"""What gave an answer, kept beside every result: model, version, weights, time, program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from components import workspace
from components.core.errors import EvidenceError, ImlError

_CODE = Path(__file__).parents[2]


class Student(NamedTuple):
    """A student's folder on this machine, and what it is."""

    folder: Path  # with `student.onnx` and `student.json`
    model: str  # its name in the registry, or the path of a folder that was named directly
    version: int | None  # its number in the registry; None for a folder that was named directly
    # Verifies the code that its version carries; gives why it may not be run here
    refusal: Callable[[], EvidenceError | None] = lambda: None

    @property
    def name(self) -> str:
        """`model/version`, or the folder."""
        return self.model if self.version is None else f"{self.model}/{self.version}"


@dataclass(frozen=True)
class Origin:
    """What gave an answer; `model` and `version` as in `Student`, never an alias, which moves."""

    model: str
    version: int | None
    weights_sha256: str  # of the student's weights
    made_at: str  # UTC, ISO 8601, to the second
    program: str  # see `program`

    @classmethod
    def of(cls, student: Student, weights_sha256: str) -> Origin:
        """The origin of answers made now."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(student.model, student.version, weights_sha256, now, program())

    def row(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def program() -> str:
    """Name and version of this program, with its commit where it runs from its repository."""
    try:
        name = f"boxpromptiml {version('boxpromptiml')}"
    except PackageNotFoundError:  # code that was copied, not installed
        name = "boxpromptiml"
    if not (_CODE / ".git").exists():
        return name
    try:
        commit = workspace.call("git", "rev-parse", "--short=12", "HEAD", folder=_CODE)
    except ImlError:
        return name
    return f"{name} ({commit.strip()})"
