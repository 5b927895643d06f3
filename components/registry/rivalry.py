"""A new version against the champion: paired over photos, clustered by source group, tested.

The bounds are those of a studentised bootstrap over whole groups (Davison & Hinkley 1997, ch. 5):
unlike percentile bounds they keep their size with few, unequal groups and many equal photos;
`iml bench promotion` simulates that.
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
        candidate, champion: means.
        value: the mean difference; None where there is nothing to compare.
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
    """The mean of `ours - theirs` with one-sided bounds.

    Args:
        ours: finite float64 (N,), one number a photo.
        theirs: (N,), the same photos in the same order.
        groups: (N,), the photos' source groups.
        trial: how bounds are drawn.
    """
    if not ours.size:
        return Difference(None, None, None, None, None, 0, 0)
    _, codes = np.unique(groups, return_inverse=True)
    sums = np.bincount(codes, weights=ours - theirs)
    sizes = np.bincount(codes).astype(np.float64)
    low, high = group_bounds(sums, sizes, trial)
    value = float(sums.sum() / sizes.sum())
    return Difference(
        float(ours.mean()), float(theirs.mean()), value, low, high, ours.size, len(sums)
    )


def group_bounds(
    sums: np.ndarray, sizes: np.ndarray, trial: Trial
) -> tuple[float | None, float | None]:
    """One-sided lower and upper bounds of a mean over groups.

    Args:
        sums: float64 (G,), sum of the differences in each group.
        sizes: float64 (G,), photos in each group.
        trial: how bounds are drawn.

    Returns:
        Both None for fewer than two groups.
    """
    count = len(sums)
    if count < 2:
        return None, None
    centre = sums.sum() / sizes.sum()
    error = float(_errors(sums[None], sizes[None], np.array([centre]))[0])
    if error == 0:  # every photo differs by the same amount
        return float(centre), float(centre)
    ratios = np.concatenate(
        [_studentised(sums[draw], sizes[draw], centre) for draw in _draws(count, trial)]
    )
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


def _errors(sums: np.ndarray, sizes: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Standard errors (R,) of means over groups drawn as (R, G), by linearisation."""
    count = sums.shape[1]
    residuals = sums - means[:, None] * sizes
    return np.sqrt(count / (count - 1) * (residuals**2).sum(axis=1)) / sizes.sum(axis=1)


def _studentised(sums: np.ndarray, sizes: np.ndarray, centre: float) -> np.ndarray:
    """How many of its own standard errors each resample's mean is off; (R,), may be infinite."""
    means = sums.sum(axis=1) / sizes.sum(axis=1)
    errors = _errors(sums, sizes, means)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (means - centre) / errors
    # A resample without any spread says nothing certain: it counts as infinitely far off.
    return np.where(np.isnan(ratios), 0.0, ratios)
