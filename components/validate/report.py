"""What validation found: as result.json, as one error line and as a self-contained HTML page."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from components.core import pages
from components.core.errors import InputError
from components.data.manifest import MANIPULATED, SPLITS, Manifest
from components.validate.checks import Severity
from components.validate.tables import (
    COORDINATES,
    LABELS,
    Rows,
    counts,
    numbers,
    related,
)

_NAMED = 3  # failed checks in the error line; the page has all
AREA_EDGES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # shares of the photo
MOST_BOXES = 5  # photos with this many boxes or more are counted together


def shown(name: str) -> str:
    """A name from outside, safe to print: control characters are escaped."""
    return name if name.isprintable() else name.encode("unicode_escape").decode()


@dataclass(frozen=True)
class Result:
    """The outcome of one check; see `components.validate.checks.Check`."""

    name: str
    severity: Severity
    passed: bool  # whether no row failed
    rows_checked: int  # rows that the check applies to
    rows_failed: int
    examples: tuple[str, ...]  # the first failing rows by name, each once, at most 20
    threshold: float | None
    sentence: str  # the outcome in plain words
    hint: str  # what to do when it failed


@dataclass(frozen=True)
class Report:
    """The outcome of all checks on some data sets, and how many photos and boxes they have."""

    datasets: tuple[str, ...]
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

    @property
    def where(self) -> str:
        """The folders of the data sets."""
        return ", ".join(f"data/{name}" for name in self.datasets)

    def values(self) -> dict[str, Any]:
        """The JSON of the report: numbers first, which DVC shows as metrics, then the details."""
        return {
            "passed": self.passed,
            "critical_failed": len(self.critical),
            "warnings": len(self.warnings),
            "photos": self.photos,
            "boxes": self.boxes,
            "checks": {result.name: result.rows_failed for result in self.checks},
            "datasets": list(self.datasets),
            "details": [asdict(result) for result in self.checks],
        }

    def require(self, page: str) -> None:
        """Raise InputError with rows and hint of the critical checks that failed."""
        if self.passed:
            return
        lines = [f"{result.sentence}, {result.hint}" for result in self.critical[:_NAMED]]
        if len(self.critical) > _NAMED:
            lines.append(f"and {len(self.critical) - _NAMED} more critical checks failed")
        raise InputError("; ".join(lines), where=self.where, hint=f"see {page}")


def area_shares(manifest: Manifest, rows: Rows) -> list[tuple[str, int]]:
    """Boxes by their share of the photo's area; those without a finite share are left out."""
    boxes, whole = manifest.boxes, numbers(manifest.images["width"])
    whole = np.append(whole * numbers(manifest.images["height"]), np.nan)  # -1 is no photo
    x0, y0, x1, y1 = (numbers(boxes[name]) for name in COORDINATES)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        share = (x1 - x0) * (y1 - y0) / whole[rows.boxes]
    tops = [*AREA_EDGES[1:], np.inf]
    found = np.histogram(share[np.isfinite(share)], bins=[AREA_EDGES[0], *tops])[0]
    names = [f"{low * 100:g}-{top * 100:g} %" for low, top in pairwise(AREA_EDGES)]
    return list(zip([*names, f"over {AREA_EDGES[-1] * 100:g} %"], found.tolist(), strict=True))


def boxes_per_photo(images: pd.DataFrame, rows: Rows) -> list[tuple[str, int]]:
    """Manipulated photos by how many boxes they have."""
    number = rows.drawn()[(images["label"] == MANIPULATED).to_numpy(dtype=bool)]
    found = np.bincount(np.minimum(number, MOST_BOXES), minlength=MOST_BOXES + 1)
    names = [str(n) for n in range(MOST_BOXES)] + [f"{MOST_BOXES} or more"]
    return list(zip(names, found.tolist(), strict=True))


def photos_by_split(images: pd.DataFrame) -> list[tuple[str, int]]:
    """Photos by split and class; those of the pool, if any, by themselves."""
    number = counts(images).to_numpy(dtype=np.int64)
    found = [
        (f"{split}, {label}", int(number[row, column]))
        for column, split in enumerate(SPLITS)
        for row, label in enumerate(LABELS)
    ]
    pool = int(images["pool"].sum())
    return [*found, ("pool", pool)] if pool else found


def render(report: Report, manifest: Manifest, rows: Rows | None = None) -> str:
    """The page of a report, as HTML; control characters in names of photos are made visible.

    `rows` are the manifest's (`components.validate.tables.related`), where they are known already.
    """
    rows = rows or related(manifest)
    values = {
        "report": report,
        "groups": int((rows.groups == np.arange(len(rows.groups))).sum()),
        "photos": photos_by_split(manifest.images),
        "area_shares": area_shares(manifest, rows),
        "boxes_per_photo": boxes_per_photo(manifest.images, rows),
    }
    return pages.render("validation.html", values, {"shown": shown})
