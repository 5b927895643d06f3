"""What each threshold gives, and the operating points chosen among them.

A photo's map is reduced to counts over a fixed grid of thresholds as soon as it is there, and
photos are summed by source group: memory grows with groups, never with pixels. One threshold holds
for the whole set of photos, never one for each:

- best: the one with the highest F1. Chosen on the photos that it is measured on, hence optimistic.
- at 1 % false alarms: the lowest one at which the authentic photos' mean false-alarm area is at
  most 1 %. It compares students that are differently bold, which F1 at 0.5 does not.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from components.core.metrics import THRESHOLD

LEVELS = np.arange(1, 257) / 256  # thresholds; nothing is above the last
ALARMS = 0.01  # mean false-alarm area of the last operating point
_SUMS = 2 * len(LEVELS) + 2  # numbers that a group's photos are summed to
_CUTS = (len(LEVELS), 2 * len(LEVELS))


class Above(NamedTuple):
    """One photo's pixels above each of `LEVELS` (strictly), as shares of the photo."""

    caught: np.ndarray  # float64 (T,), manipulated pixels
    marked: np.ndarray  # float64 (T,), all pixels
    truth: float  # of the photo that is manipulated


class Points(NamedTuple):
    """An operating point in each of R sums."""

    f1: np.ndarray  # float64 (R,), mean over manipulated photos; NaN where it is undefined
    alarms: np.ndarray  # float64 (R,), mean false-alarm area of authentic photos; NaN likewise
    threshold: np.ndarray  # float64 (R,)


def above(prob: np.ndarray, mask: np.ndarray) -> Above:
    """Count a photo: `prob` float32 (H, W), `mask` bool (H, W), all false for an authentic one."""
    # Products with a power of two are exact, so a pixel is above exactly the levels below it.
    places = np.ceil(prob.ravel() * np.float32(len(LEVELS))).astype(np.int16)
    bins = len(LEVELS) + 2
    outside, inside = np.bincount(places + bins * mask.ravel(), minlength=2 * bins).reshape(2, -1)

    def count(of: np.ndarray) -> np.ndarray:
        return of[:1:-1].cumsum()[::-1] / prob.size

    return Above(count(inside), count(inside + outside), int(inside.sum()) / prob.size)


class Sweep:
    """The sums of many photos, by source group."""

    def __init__(self) -> None:
        # Of each group: F1 and false alarms (T,) each, manipulated and authentic photos.
        self._groups: dict[str, np.ndarray] = {}
        self._caught, self._marked = np.zeros((2, len(LEVELS)))
        self._truth = 0.0

    def add(self, photo: Above, group: object = "") -> None:
        """Add one photo under its source group."""
        sums = self._groups.setdefault(str(group), np.zeros(_SUMS))
        f1, alarms, photos = np.split(sums, _CUTS)
        if photo.truth:
            f1 += 2 * photo.caught / (photo.marked + photo.truth)
        else:
            alarms += photo.marked
        photos += (photo.truth > 0, photo.truth == 0)
        self._caught += photo.caught
        self._marked += photo.marked
        self._truth += photo.truth

    def total(self) -> np.ndarray:
        """The sums over all photos: float64 (1, K)."""
        return self.by_group().sum(axis=0, keepdims=True)

    def by_group(self) -> np.ndarray:
        """The sums of each group, by name: float64 (G, K)."""
        return np.array([self._groups[name] for name in sorted(self._groups)]).reshape(-1, _SUMS)

    def rows(self, step: int) -> list[dict[str, float | None]]:
        """Every `step`-th threshold, finite numbers or None.

        `f1` and `false_alarm_area` are means over photos, as in the metrics; `precision` and
        `recall` are over the pixels of all photos, each photo with equal weight.
        """
        f1, alarms = (mean[0] for mean in _means(self.total()))
        with np.errstate(invalid="ignore"):
            precision, recall = self._caught / self._marked, self._caught / np.float64(self._truth)
        names = ("threshold", "f1", "false_alarm_area", "precision", "recall")
        table = np.stack([LEVELS, f1, alarms, precision, recall], axis=1)
        return [
            {
                name: round(float(value), 6) if np.isfinite(value) else None
                for name, value in zip(names, row, strict=True)
            }
            for row in table[step - 1 : -1 : step]
        ]


def _means(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F1 over manipulated and false-alarm area over authentic photos of sums (R, K): (R, T) each.

    NaN where there are none.
    """
    f1, alarms, photos = np.split(sums, _CUTS, axis=1)
    with np.errstate(invalid="ignore"):
        return f1 / photos[:, :1], alarms / photos[:, 1:]


def at_half(sums: np.ndarray) -> Points:
    """The fixed threshold, of sums (R, K)."""
    return _points(sums, np.full(len(sums), THRESHOLD * len(LEVELS) - 1, dtype=np.int64))


def best(sums: np.ndarray) -> Points:
    """The one with the highest F1, of sums (R, K)."""
    return _points(sums, _means(sums)[0].argmax(axis=1))


def at_alarms(sums: np.ndarray) -> Points:
    """The lowest one with at most 1 % false alarms, of sums (R, K)."""
    points = _points(sums, (_means(sums)[1] <= ALARMS).argmax(axis=1))
    return points._replace(f1=np.where(np.isnan(points.alarms), np.nan, points.f1))


def _points(sums: np.ndarray, places: np.ndarray) -> Points:
    """What the thresholds at these places of `LEVELS`, int64 (R,), give."""
    f1, alarms = (np.take_along_axis(m, places[:, None], axis=1)[:, 0] for m in _means(sums))
    return Points(f1, alarms, LEVELS[places])
