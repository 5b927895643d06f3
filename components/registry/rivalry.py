"""A new version against the champion: paired over photos, clustered by source group, tested.

Every source group counts alike, however many photos it has: where photos count alike, a few large
groups decide, and no bound keeps its size. The bounds are those of a studentised bootstrap (Davison
& Hinkley 1997, ch. 5); `iml bench promotion` simulates how often they are wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from components.data.manifest import AUTHENTIC, MANIPULATED
from components.errors import InputError
from components.seeds import generator

_BLOCK = 4_000_000  # numbers held at a time


@dataclass(frozen=True)
class Difference:
    """Candidate minus champion over the same photos.

    Attributes:
        candidate, champion: means over source groups of the groups' means.
        value: the difference; None where there is nothing to compare.
        low, high: one-sided bounds, each wrong with probability alpha; None with too few groups.
        n, groups: photos and source groups compared.
    """

    candidate: float | None
    champion: float | None
    value: float | None
    low: float | None
    high: float | None
    n: int
    groups: int


@dataclass(frozen=True)
class Comparison:
    """Two versions on the same photos, both scored with today's code.

    Attributes:
        champion: the version it was compared with.
        f1: over manipulated photos.
        false_alarm_area: over authentic photos.
        left_out: today's test photos that the champion was trained or tuned on.
    """

    champion: int
    f1: Difference
    false_alarm_area: Difference
    left_out: int


@dataclass(frozen=True)
class Trial:
    """How bounds are drawn: size of each one-sided test, resamples, seed."""

    alpha: float
    resamples: int
    seed: int


def compare(
    champion: int, candidate: pd.DataFrame, reigning: pd.DataFrame, trial: Trial, left_out: int = 0
) -> Comparison:
    """Compare per-photo results of two versions (columns of `components.evaluation.run.IMAGES`).

    Args:
        champion: the reigning version.
        candidate: results of the new version.
        reigning: results of the champion, by the same code on the same photos.
        trial: how bounds are drawn.
        left_out: photos left out of both beforehand.

    Raises:
        InputError: the two were not scored on the same photos, or a photo was scored twice.
    """
    both = champion, candidate, reigning
    f1 = _difference(*both, MANIPULATED, "f1", trial)
    alarms = _difference(*both, AUTHENTIC, "false_alarm_area", trial)
    return Comparison(champion, f1, alarms, left_out)


def _difference(
    champion: int,
    candidate: pd.DataFrame,
    reigning: pd.DataFrame,
    label: str,
    name: str,
    trial: Trial,
) -> Difference:
    ours, theirs = _photos(candidate, label), _photos(reigning, label)
    if not ours.index.equals(theirs.index):
        raise InputError(
            f"the version and champion {champion} were scored on different photos "
            f"({len(ours)} and {len(theirs)})",
            mend="run `iml run` again, which scores both",
        )
    first, second = ours[name].to_numpy(dtype=float), theirs[name].to_numpy(dtype=float)
    if (np.isnan(first) != np.isnan(second)).any():
        raise InputError(
            f"the version cannot be compared with champion {champion} "
            "(a photo has a number from one of them only)"
        )
    keep = ~np.isnan(first)
    codes = ours["group"].astype(str).to_numpy()[keep]
    return bounds(first[keep], second[keep], codes, trial)


def _photos(images: pd.DataFrame, label: str) -> pd.DataFrame:
    rows = images[images["label"] == label]
    if rows["image_id"].duplicated().any():
        raise InputError("a photo was scored twice")
    return rows.set_index("image_id").sort_index()


def bounds(ours: np.ndarray, theirs: np.ndarray, groups: np.ndarray, trial: Trial) -> Difference:
    """The mean of `ours - theirs` over source groups, with one-sided bounds.

    Args:
        ours: finite float64 (N,), one number a photo.
        theirs: (N,), the same photos in the same order.
        groups: (N,), the photos' source groups.
        trial: how bounds are drawn.
    """
    if not ours.size:
        return Difference(None, None, None, None, None, 0, 0)
    first, second = group_means(ours, groups), group_means(theirs, groups)
    low, high = group_bounds(first - second, trial)
    means = float(first.mean()), float(second.mean())
    value = float((first - second).mean())
    return Difference(*means, value, low, high, ours.size, len(first))


def group_means(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Each source group's mean, float64 (G,), by sorted group."""
    _, codes = np.unique(groups, return_inverse=True)
    return np.bincount(codes, weights=values) / np.bincount(codes)


def group_bounds(values: np.ndarray, trial: Trial) -> tuple[float | None, float | None]:
    """One-sided lower and upper bounds of a mean over groups.

    Args:
        values: float64 (G,), one difference a group.
        trial: how bounds are drawn.

    Returns:
        Both None for fewer than two groups.
    """
    count = len(values)
    if count < 2:
        return None, None
    centre, error = values.mean(), float(values.std(ddof=1) / np.sqrt(count))
    if error == 0:  # every group differs by the same amount
        return float(centre), float(centre)
    ratios = np.concatenate([_studentised(values[draw], centre) for draw in _draws(count, trial)])
    lower = float(np.quantile(ratios, trial.alpha, method="lower"))
    upper = float(np.quantile(ratios, 1 - trial.alpha, method="higher"))
    low, high = float(centre - upper * error), float(centre - lower * error)
    return low if np.isfinite(low) else None, high if np.isfinite(high) else None


def _draws(count: int, trial: Trial) -> Iterator[np.ndarray]:
    """Blocks of resamples: int64 (R, G), the groups drawn in each."""
    random = generator(trial.seed, "rivalry")
    rows = max(1, _BLOCK // count)
    for start in range(0, trial.resamples, rows):
        yield random.integers(0, count, (min(rows, trial.resamples - start), count))


def _studentised(drawn: np.ndarray, centre: float) -> np.ndarray:
    """How many of its own standard errors each resample's mean is off; (R,), may be infinite."""
    errors = drawn.std(axis=1, ddof=1) / np.sqrt(drawn.shape[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (drawn.mean(axis=1) - centre) / errors
    # A resample that is all equal to the mean is not off at all.
    return np.where(np.isnan(ratios), 0.0, ratios)
