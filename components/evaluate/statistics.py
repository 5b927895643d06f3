"""Confidence intervals by cluster bootstrap: source groups are drawn again, never single photos.

Photos made from the same source are not independent; drawing photos one by one would make the
interval too narrow. Percentile intervals (Efron & Tibshirani 1993, ch. 13), seeded, and computed
for many resamples at once in blocks of bounded memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from components.core.seeds import generator

_BLOCK = 4_000_000  # numbers held at a time
Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are drawn: number of resamples, confidence (e.g. 0.95), seed."""

    resamples: int
    confidence: float
    seed: int


@dataclass(frozen=True)
class Interval:
    """A statistic with its percentile bounds."""

    value: float | None  # on the data as they are; None where it is undefined (an empty class)
    low: float | None  # None where fewer than two groups leave nothing to draw
    high: float | None
    n: int  # photos behind it

    def as_dict(self) -> dict[str, float | None]:
        """For JSON: finite numbers or None."""
        return asdict(self)


def _codes(groups: ArrayLike) -> tuple[np.ndarray, int]:
    """Each photo's group as 0..G-1 (by sorted name, so row order does not matter), and G."""
    texts = np.array([str(group) for group in np.asarray(groups, dtype=object)])
    names, codes = np.unique(texts, return_inverse=True)
    return codes, len(names)


def resampled(
    statistic: Statistic,
    draw: Callable[[int], np.ndarray],
    resamples: int,
    width: int,
) -> np.ndarray:
    """A statistic of many resamples, computed in blocks of bounded memory.

    Args:
        statistic: maps a block of resamples (R, G) to numbers (R, ...).
        draw: the next R resamples of G groups.
        resamples: how many in all.
        width: numbers that the statistic holds for one resample. Only this decides the blocks, so
            the numbers drawn are the same everywhere.
    """
    rows = max(1, _BLOCK // width)
    starts = range(0, resamples, rows)
    return np.concatenate([statistic(draw(min(rows, resamples - start))) for start in starts])


def _times(draw: np.ndarray) -> np.ndarray:
    """How often each group was drawn, float64 (R, G), from the groups drawn, int64 (R, G)."""
    times = np.zeros(draw.shape, dtype=np.float64)
    np.add.at(times, (np.arange(len(draw))[:, None], draw), 1.0)
    return times


def _bounds(samples: np.ndarray, bootstrap: Bootstrap) -> tuple[float | None, float | None]:
    """Percentile bounds over the resamples in which the statistic is defined."""
    samples = samples[np.isfinite(samples)]
    if not samples.size:
        return None, None
    tail = (1 - bootstrap.confidence) / 2
    low, high = np.quantile(samples, [tail, 1 - tail])
    return float(low), float(high)


def _interval(
    value: float, n: int, groups: int, statistic: Statistic, width: int, bootstrap: Bootstrap
) -> Interval:
    """Value and bounds of `statistic`, which maps drawn groups (R, G) to numbers (R,)."""
    if not math.isfinite(value):
        return Interval(None, None, None, n)
    if groups < 2:
        return Interval(value, None, None, n)
    random = generator(bootstrap.seed, "bootstrap")

    def draw(size: int) -> np.ndarray:
        return random.integers(0, groups, (size, groups))

    samples = resampled(statistic, draw, bootstrap.resamples, max(groups, width))
    return Interval(value, *_bounds(samples, bootstrap), n)


def mean(values: ArrayLike, groups: ArrayLike, bootstrap: Bootstrap) -> Interval:
    """Mean over photos with its interval; NaN values (undefined for that photo) are left out.

    `groups` are the photos' source groups, the unit that is drawn again.
    """
    array = np.asarray(values, dtype=np.float64)
    keep = ~np.isnan(array)
    array = array[keep]
    if not array.size:
        return Interval(None, None, None, 0)
    codes, count = _codes(np.asarray(groups, dtype=object)[keep])
    sums = np.bincount(codes, weights=array, minlength=count)
    sizes = np.bincount(codes, minlength=count).astype(np.float64)

    def statistic(draw: np.ndarray) -> np.ndarray:
        return sums[draw].sum(axis=1) / sizes[draw].sum(axis=1)

    return _interval(float(array.mean()), array.size, count, statistic, count, bootstrap)


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    groups: ArrayLike,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean of `a - b` over the same photos, with its interval (candidate minus champion).

    Pairing removes what makes a photo hard for both, so far smaller differences show than by
    comparing two intervals. Both have one number a photo, NaN where undefined.

    Raises:
        ValueError: different lengths, or a photo that is defined for one model only (dropping it
            would hide a failure of the other).
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    photos = np.asarray(groups, dtype=object).shape
    if not first.shape == second.shape == photos:
        raise ValueError(f"{first.size} and {second.size} numbers for {photos[0]} photos")
    if (np.isnan(first) != np.isnan(second)).any():
        raise ValueError("a photo has a number from one model only")
    return mean(first - second, groups, Bootstrap(resamples, confidence, seed))


def _weighted_auc(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """AUC from weights (R, T) of both classes at T ascending distinct scores; ties half."""
    below = np.cumsum(negative, axis=1) - negative
    wins = (positive * (below + 0.5 * negative)).sum(axis=1)
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    return np.divide(wins, pairs, out=np.full(len(wins), np.nan), where=pairs > 0)


def auc(
    scores: ArrayLike, positive: ArrayLike, groups: ArrayLike, bootstrap: Bootstrap
) -> Interval:
    """Exact image-level AUC (ties half) with its interval; None where a class is empty.

    `scores` are finite; `positive` says whether a photo is manipulated.
    """
    truth = np.asarray(positive, dtype=bool)
    order = np.argsort(np.asarray(scores, dtype=np.float64), kind="stable")
    truth, ranked = truth[order], np.asarray(scores, dtype=np.float64)[order]
    codes, count = _codes(groups)
    codes = codes[order]
    if not truth.any() or truth.all():
        return Interval(None, None, None, len(truth))
    # Photos of equal score form one step of the ROC curve.
    steps = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])

    def area(weights: np.ndarray) -> np.ndarray:
        return _weighted_auc(
            np.add.reduceat(weights * truth, steps, axis=1),
            np.add.reduceat(weights * ~truth, steps, axis=1),
        )

    def statistic(draw: np.ndarray) -> np.ndarray:
        return area(_times(draw)[:, codes])

    value = float(area(np.ones((1, len(truth))))[0])
    return _interval(value, len(truth), count, statistic, len(truth), bootstrap)


def of_sums(
    sums: ArrayLike,
    groups: ArrayLike,
    statistic: Statistic,
    bootstrap: Bootstrap,
) -> Interval:
    """A statistic of sums over photos (a ratio, an error over bins) with its interval.

    Args:
        sums: (N, K), what each photo adds.
        groups: (N,), the photos' source groups.
        statistic: maps sums (R, K) to numbers (R,); NaN where undefined.
        bootstrap: how intervals are drawn.
    """
    array = np.asarray(sums, dtype=np.float64)
    codes, count = _codes(groups)
    by_group = np.zeros((count, array.shape[1]))
    np.add.at(by_group, codes, array)
    return of_group_sums(by_group, len(array), statistic, bootstrap)


def of_group_sums(
    by_group: np.ndarray,
    photos: int,
    statistic: Statistic,
    bootstrap: Bootstrap,
) -> Interval:
    """As `of_sums`, of `photos` photos that are summed by source group already.

    `by_group` is float64 (G, K), groups in the order of their names.
    """
    if not photos:
        return Interval(None, None, None, 0)
    count = len(by_group)
    value = float(statistic(by_group.sum(axis=0, keepdims=True))[0])
    width = max(by_group.shape)
    return _interval(
        value, photos, count, lambda draw: statistic(_times(draw) @ by_group), width, bootstrap
    )
