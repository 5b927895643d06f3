"""What other thresholds than 0.5 would give: pixels above each, summed over photos as they come."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LEVELS = np.arange(1, 20) / 20  # 0.05 to 0.95


class Above(NamedTuple):
    """One photo's pixels above each of `LEVELS` (strictly), as shares of the photo.

    Attributes:
        caught: float64 (T,), manipulated pixels.
        marked: float64 (T,), all pixels.
        truth: of the photo that is manipulated.
    """

    caught: np.ndarray
    marked: np.ndarray
    truth: float


def above(prob: np.ndarray, mask: np.ndarray) -> Above:
    """Count one photo.

    Args:
        prob: float32 (H, W), as the model gave it.
        mask: bool (H, W), the truth; all false for an authentic photo.
    """
    # How many levels each pixel is above.
    places = np.searchsorted(LEVELS, prob.ravel(), side="left")

    def count(of: np.ndarray) -> np.ndarray:
        by_place = np.bincount(of, minlength=len(LEVELS) + 1)[1:]
        return by_place[::-1].cumsum()[::-1] / prob.size

    return Above(count(places[mask.ravel()]), count(places), np.count_nonzero(mask) / prob.size)


class Sweep:
    """The sums of many photos; memory does not grow with them."""

    def __init__(self) -> None:
        self._photos = np.zeros(2, dtype=np.int64)  # authentic, manipulated
        self._f1, self._alarms, self._caught, self._marked = np.zeros((4, len(LEVELS)))
        self._truth = 0.0

    def add(self, photo: Above) -> None:
        """One photo."""
        self._photos[int(photo.truth > 0)] += 1
        self._caught += photo.caught
        self._marked += photo.marked
        self._truth += photo.truth
        if photo.truth:
            self._f1 += 2 * photo.caught / (photo.marked + photo.truth)
        else:
            self._alarms += photo.marked

    def rows(self) -> list[dict[str, float | None]]:
        """One row a threshold, finite numbers or None.

        `f1` and `false_alarm_area` are means over photos, as in the metrics; `precision` and
        `recall` are over the pixels of all photos, each photo with equal weight.
        """
        authentic, manipulated = self._photos.tolist()
        columns = {
            "threshold": LEVELS,
            "f1": self._f1 / (manipulated or np.nan),
            "false_alarm_area": self._alarms / (authentic or np.nan),
            "precision": self._caught / np.where(self._marked, self._marked, np.nan),
            "recall": self._caught / (self._truth or np.nan),
        }
        return [
            {
                name: round(float(value), 6) if np.isfinite(value) else None
                for name, value in zip(columns, row, strict=True)
            }
            for row in zip(*columns.values(), strict=True)
        ]
