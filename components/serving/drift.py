"""Drift: two sets of scored photos compared column by column, and the page that shows it.

A source is the results of `iml score` or their table, any Parquet or CSV with scores, or a folder
with the JSON that `iml predict` writes, whose photos are read for their JPEG quality.

Each column gets a two-sample Kolmogorov-Smirnov test (scipy); Benjamini-Hochberg controls the false
discovery rate over the columns. With many photos any difference is significant, so drift must also
be large: the statistic, the greatest distance between the two distribution functions, has to reach
a minimum effect.
"""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control, ks_2samp

from components.core import pages
from components.core.errors import InputError
from components.core.files import read_json
from components.core.jpeg import jpeg_quality
from components.serving import table
from components.serving.table import INDEX, TABLE

COLUMNS = ("score", "area", "width", "height", "jpeg_quality")
SIGNIFICANCE, EFFECT, FEWEST = 0.01, 0.15, 30
_BINS = 20


@dataclass(frozen=True)
class Column:
    """One column's comparison."""

    name: str
    reference: int  # photos that have it
    current: int
    medians: tuple[float, float]  # of the two
    distance: float  # the Kolmogorov-Smirnov statistic, 0..1
    p: float  # after Benjamini-Hochberg
    drifted: bool  # significant and large


@dataclass(frozen=True)
class Drift:
    """All columns' comparisons, and what to do about drift.

    Attributes:
        source: the photos of today, as `iml annotate` takes them; None if it is not known.
        first: those to annotate first, in order, if they are at hand.
    """

    columns: list[Column]
    significance: float
    effect: float
    source: str | None = None
    first: tuple[str, ...] = ()

    @property
    def drifted(self) -> list[str]:
        """Names of the columns that drifted."""
        return [column.name for column in self.columns if column.drifted]

    @property
    def sentence(self) -> str:
        """The outcome for people."""
        drifted = [column for column in self.columns if column.drifted]
        found = [f"{c.name} ({c.medians[0]:.4g} to {c.medians[1]:.4g})" for c in drifted]
        return f"drift in {', '.join(found)}" if found else "no drift"

    @property
    def command(self) -> str:
        """What shows the photos of today in the order in which to annotate them."""
        return f"iml annotate {shlex.quote(self.source or 'PHOTOS')} --into DATASET --order gain"

    @property
    def advice(self) -> str:
        """Which photos to annotate, for people."""
        first = f"annotate first {', '.join(self.first)}; " if self.first else ""
        return f"{first}`{self.command}` shows all, the most useful first"

    def row(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**asdict(self), "drifted": self.drifted, "sentence": self.sentence}


def read(source: Path) -> pd.DataFrame:
    """The drift columns of a source, float64, absent values as NaN.

    Raises:
        InputError: nothing there, no table of scores, no scored photo in it.
    """
    scores = source / TABLE if (source / TABLE).exists() else source
    if (scores / INDEX).is_file():
        frame = table.read(scores, *COLUMNS)
    else:
        records = scores.is_dir() and scores.suffix != ".parquet"
        frame = _records(scores) if records else _table(scores)
    if "score" not in frame or not pd.api.types.is_numeric_dtype(frame["score"]):
        raise InputError(
            "no numbers in a column `score`",
            where=str(source),
            hint="name a table of scores or a folder of `iml predict`",
        )
    if "jpeg_quality" not in frame and "photo" in frame:
        frame["jpeg_quality"] = [_quality(Path(str(photo))) for photo in frame["photo"]]
    numbers = {
        name: pd.to_numeric(frame[name], errors="coerce").astype("float64")
        for name in COLUMNS
        if name in frame
    }
    return pd.DataFrame(numbers)


def _table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except FileNotFoundError:
        raise InputError("no such file or folder", where=str(path)) from None
    except (ValueError, OSError) as error:
        raise InputError(f"not a Parquet or CSV table ({error})", where=str(path)) from None


def _records(folder: Path) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.rglob("[!.]*.json")):
        row = read_json(path)
        if isinstance(row, dict) and {"photo", "score"} <= set(row):
            rows.append(row)
    if not rows:
        raise InputError("no scored photo here", where=str(folder), hint="run `iml predict` first")
    return pd.DataFrame(rows)


def _quality(photo: Path) -> float:
    """JPEG quality of a photo that is still in its place; NaN for others and other files."""
    try:
        quality = jpeg_quality(photo.read_bytes())
    except OSError:
        return float("nan")
    return float("nan") if quality is None else quality


def compare(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    *,
    significance: float = SIGNIFICANCE,
    effect: float = EFFECT,
) -> Drift:
    """Compare the columns that both tables (from `read`) have for at least 30 photos.

    A column drifts if its corrected p-value is below `significance` and its distance reaches
    `effect`.

    Raises:
        InputError: no column has enough photos on both sides.
    """
    pairs = {
        name: (reference[name].dropna().to_numpy(), current[name].dropna().to_numpy())
        for name in reference.columns.intersection(current.columns)
    }
    pairs = {name: pair for name, pair in pairs.items() if min(map(len, pair)) >= FEWEST}
    if not pairs:
        raise InputError(f"fewer than {FEWEST} scored photos on one side", hint="score more")
    found = {name: ks_2samp(*pair, method="asymp") for name, pair in pairs.items()}
    corrected = false_discovery_control([result.pvalue for result in found.values()])
    columns = [
        Column(
            name,
            len(pairs[name][0]),
            len(pairs[name][1]),
            (float(np.median(pairs[name][0])), float(np.median(pairs[name][1]))),
            float(result.statistic),
            float(p),
            bool(p < significance and result.statistic >= effect),
        )
        for (name, result), p in zip(found.items(), corrected, strict=True)
    ]
    return Drift(columns, significance, effect)


def render(drift: Drift, reference: pd.DataFrame, current: pd.DataFrame) -> str:
    """One self-contained HTML page: the table, and both distributions of every column."""
    bars = {c.name: _bars(reference[c.name], current[c.name]) for c in drift.columns}
    return pages.render("drift.html", {"drift": drift, "bars": bars})


def _bars(reference: pd.Series, current: pd.Series) -> list[tuple[str, float, float]]:
    """Both sides in bins of equal width, as shares of the highest bar: (bin, before, now)."""
    both = [side.dropna().to_numpy() for side in (reference, current)]
    edges = np.histogram_bin_edges(np.concatenate(both), bins=_BINS)
    shares = [np.histogram(side, edges)[0] / len(side) for side in both]
    top = max(float(side.max()) for side in shares)
    return [
        (f"{low:.4g} to {high:.4g}", float(a) / top, float(b) / top)
        for low, high, a, b in zip(edges[:-1], edges[1:], *shares, strict=True)
    ]
