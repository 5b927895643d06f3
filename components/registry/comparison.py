"""A new version against the champion: paired over photos, clustered by source group, tested.

Each source group has equal weight, however many photos it has: with equal weight per photo, a few
large groups decide, and no bound keeps its size. A bound is the more cautious of two: the
studentised bootstrap's (Davison & Hinkley 1997, ch. 5), which follows skewed differences, and
Student's with one degree of freedom fewer than groups (Cameron & Miller 2015, sec. VI), which holds
where few groups happen to be alike. `python -m benchmarks promotion` simulates how often bounds are
wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from components.core.errors import InputError
from components.core.seeds import generator
from components.data.manifest import AUTHENTIC, MANIPULATED
from components.evaluate import statistics

_ROUNDING = 1e-12  # of a variance: less than that is a difference of rounded sums


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
    """Two versions on the same photos, both scored today.

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
    champion: int, candidate: pd.DataFrame, current: pd.DataFrame, trial: Trial, left_out: int = 0
) -> Comparison:
    """Compare per-photo results of two versions (columns of `components.evaluate.run.IMAGES`).

    Args:
        champion: the champion's version.
        candidate: results of the new version.
        current: results of the champion, by the same code on the same photos.
        trial: how bounds are drawn.
        left_out: photos left out of both beforehand.

    Raises InputError where the two were not scored on the same photos, or one of them twice.
    """

    def difference(label: str, name: str) -> Difference:
        ours, theirs = _photos(candidate, label), _photos(current, label)
        if not ours.index.equals(theirs.index):
            raise InputError(
                f"the version and champion {champion} were scored on different photos "
                f"({len(ours)} and {len(theirs)})",
                hint="run `iml run` again, which scores both",
            )
        first, second = ours[name].to_numpy(dtype=float), theirs[name].to_numpy(dtype=float)
        if (np.isnan(first) != np.isnan(second)).any():
            raise InputError(
                f"the version cannot be compared with champion {champion} "
                "(a photo has a number from one of them only)"
            )
        keep = ~np.isnan(first)
        groups = ours["group"].astype(str).to_numpy()[keep]
        return bounds(first[keep], second[keep], groups, trial)

    f1 = difference(MANIPULATED, "f1")
    alarms = difference(AUTHENTIC, "false_alarm_area")
    return Comparison(champion, f1, alarms, left_out)


def _photos(images: pd.DataFrame, label: str) -> pd.DataFrame:
    rows = images[images["label"] == label]
    if rows["image_id"].duplicated().any():
        raise InputError("a photo was scored twice")
    return rows.set_index("image_id").sort_index()


def bounds(ours: np.ndarray, theirs: np.ndarray, groups: np.ndarray, trial: Trial) -> Difference:
    """The mean of `ours - theirs` over source groups, with one-sided bounds.

    Finite float64 (N,), one number a photo, in the same order; `groups` are the photos' sources.
    """
    if not ours.size:
        return Difference(None, None, None, None, None, 0, 0)
    first, second = group_means(ours, groups), group_means(theirs, groups)
    low, high = (float(bound[0]) for bound in group_bounds((first - second)[None], trial))
    return Difference(
        float(first.mean()),
        float(second.mean()),
        float((first - second).mean()),
        low if np.isfinite(low) else None,
        high if np.isfinite(high) else None,
        ours.size,
        len(first),
    )


def group_means(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Each source group's mean, float64 (G,), by sorted group."""
    _, codes = np.unique(groups, return_inverse=True)
    return np.bincount(codes, weights=values) / np.bincount(codes)


def group_bounds(values: np.ndarray, trial: Trial) -> tuple[np.ndarray, np.ndarray]:
    """One-sided lower and upper bounds of the means over groups of many test sets at once.

    Args:
        values: float64 (T, G), one row a test set, one difference a group.
        trial: how bounds are drawn; the groups drawn are the same in every test set.

    Returns:
        Float64 (T,) each; infinite where there are too few groups to tell.
    """
    sets, count = values.shape
    if count < 2:
        return np.full(sets, -np.inf), np.full(sets, np.inf)
    centres = values.mean(axis=1)
    errors = values.std(axis=1, ddof=1) / np.sqrt(count)
    off = (values - centres[:, None]).T
    # The seed's name is an old one of this module; another would change every recorded bound.
    random, even = generator(trial.seed, "rivalry"), np.full(count, 1 / count)
    ratios = statistics.resampled(
        lambda times: _studentised(times, off),
        lambda size: random.multinomial(count, even, size).astype(np.float64),
        trial.resamples,
        max(count, sets),
    )
    student = stdtrit(count - 1, 1 - trial.alpha)
    lower = np.quantile(ratios, trial.alpha, axis=0, method="lower")
    upper = np.quantile(ratios, 1 - trial.alpha, axis=0, method="higher")
    same = np.ptp(values, axis=1) == 0  # every group differs by the same amount
    errors[same], lower[same], upper[same] = 0, 0, 0
    return (
        centres - np.maximum(upper, student) * errors,
        centres - np.minimum(lower, -student) * errors,
    )


def _studentised(times: np.ndarray, off: np.ndarray) -> np.ndarray:
    """How many of its own standard errors each resample's mean is off, (R, T).

    From how often each group was drawn, (R, G), and groups minus their test set's mean, (G, T).
    Infinite where a resample is all alike, 0 where it is all equal to the mean.
    """
    count = len(off)
    means, squares = times @ off / count, times @ off**2 / count
    spread = squares - means**2
    spread[spread < _ROUNDING * squares] = 0
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = means / np.sqrt(spread / (count - 1))
    return np.where(np.isnan(ratios), 0.0, ratios)
