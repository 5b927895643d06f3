"""What people decided: one JSON file for each photo and person, written whole at once.

A later decision of the same person replaces the file, so a killed server has lost nothing that the
page was told is kept, and a new one reads where everybody was.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.core.errors import InputError
from components.core.files import read_json, sha256_bytes, write_json
from components.data.manifest import AUTHENTIC, MANIPULATED

SCHEMA = 1
CANNOT_TELL, NOT_USABLE = "cannot tell", "not usable"
MARKS = (MANIPULATED, AUTHENTIC, CANNOT_TELL, NOT_USABLE)


@dataclass(frozen=True)
class Decision:
    """What one person decided about one photo."""

    photo: str  # its name in the source
    photo_sha256: str  # of its bytes as they were shown; "" where they could not be read
    width: int  # pixels, upright; 0 where it could not be read
    height: int
    annotator: str
    mark: str  # one of `MARKS`; boxes are drawn if and only if it is `manipulated`
    boxes: list[list[float]]  # x0, y0, x1, y1 in pixels of the upright photo, half-open
    confidences: list[float]  # of the teacher's mask of each box
    seconds: float  # of attention: the page was seen and used
    teacher: str
    teacher_sha256: str
    decided_at: str  # UTC, ISO 8601


class Decisions:
    """All decisions below a folder, on disk and in memory; one process has it at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        kept = [_read(path) for path in sorted(folder.glob("[!.]*.json"))]
        self._kept = {(one.photo, one.annotator): one for one in kept}

    def write(self, decision: Decision) -> None:
        """Keep a decision; it is on disk when this returns."""
        digests = [sha256_bytes(text.encode()) for text in (decision.photo, decision.annotator)]
        name = f"{digests[0][:32]}-{digests[1][:16]}.json"
        write_json(self._folder / name, {"schema": SCHEMA, **asdict(decision)})
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)  # the name too, for a computer that loses power
        finally:
            os.close(folder)
        self._kept[decision.photo, decision.annotator] = decision

    def get(self, photo: str, annotator: str) -> Decision | None:
        """What a person decided about a photo, if they did."""
        return self._kept.get((photo, annotator))

    def all(self) -> list[Decision]:
        """Every decision, the oldest first."""
        return sorted(self._kept.copy().values(), key=lambda one: (one.decided_at, one.photo))


def _read(path: Path) -> Decision:
    row: Any = read_json(path)
    if not isinstance(row, dict) or row.pop("schema", None) != SCHEMA:
        raise InputError("not a decision of this program's version", where=str(path))
    try:
        return Decision(**row)
    except TypeError:
        raise InputError("not a decision", where=str(path)) from None


def by_photo(decisions: Sequence[Decision]) -> dict[str, list[Decision]]:
    """Decisions by the photo's name, in their order."""
    found: dict[str, list[Decision]] = {}
    for one in decisions:
        found.setdefault(one.photo, []).append(one)
    return found
