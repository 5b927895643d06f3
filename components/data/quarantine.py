"""Photos that cannot be used: listed with their reasons, and refused where there are too many."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from components.core.errors import InputError

FILE = "quarantine.csv"


class Quarantined(NamedTuple):
    """A photo left out, and why."""

    photo: str
    reason: str


def as_csv(rows: Sequence[tuple[str, str]]) -> str:
    """The text of a quarantine list: columns photo, reason."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("photo", "reason"), *rows])
    return text.getvalue()


def refuse_many(
    rows: Sequence[tuple[str, str]], limit: int, where: Path, listed: Path | None = None
) -> None:
    """Raise InputError where more photos are unusable than `prepare.max_quarantined`.

    Args:
        rows: photo and reason.
        limit: how many may be left out.
        where: the data set.
        listed: a file that lists them.
    """
    if len(rows) > limit:
        photo, reason = rows[0]
        more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        raise InputError(
            f"{photo}: {reason}{more}, {limit} may be left out",
            where=str(where),
            hint=(f"see {listed}; " if listed else "")
            + "correct them or raise prepare.max_quarantined",
        )
