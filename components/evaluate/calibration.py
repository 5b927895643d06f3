"""Calibration: reliability of the pixels' probabilities, and the call on the whole photo.

A pixel given 0.8 should be manipulated in 8 of 10 cases. Pixels are counted in equal bins of
probability; each photo has equal weight, however large it is. The expected calibration error is the
mean distance between a bin's probability and its share of manipulated pixels, weighted by the bin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from components.evaluate import statistics

BINS = 15


@dataclass(frozen=True)
class Calibration:
    """What a model's validation photos set."""

    temperature: float = 1.0  # its logits were divided by this
    # An image score above it calls the photo manipulated; None: not set
    image_threshold: float | None = None


def reliability(prob: np.ndarray, mask: np.ndarray, temperature: float) -> np.ndarray:
    """One photo's pixels by bin, with and without the temperature.

    Args:
        prob: float32 (H, W), as the model gave it.
        mask: bool (H, W), the truth.
        temperature: that the model divided its logits by.

    Returns:
        float64 (2, 3, BINS): calibrated and raw; in each bin the share of the pixels, and the sums
        of probability and of truth over the number of pixels.
    """
    calibrated, truth = prob.ravel(), mask.ravel()
    if temperature == 1:
        return np.stack([_binned(calibrated, truth)] * 2)
    clipped = np.clip(calibrated, 1e-7, 1 - 1e-7)
    odds = (clipped / (1 - clipped)) ** np.float32(temperature)
    return np.stack([_binned(calibrated, truth), _binned(odds / (1 + odds), truth)])


def _binned(prob: np.ndarray, truth: np.ndarray) -> np.ndarray:
    places = np.minimum((prob * BINS).astype(np.int64), BINS - 1)
    parts = (None, prob, truth)
    return np.stack([np.bincount(places, part, BINS) for part in parts]) / len(prob)


class BinSums:
    """Sums of the bins of `photos` photos: memory grows with source groups, not with photos."""

    def __init__(self) -> None:
        self.photos = 0
        self.total = np.zeros((2, 3, BINS))
        self._groups: dict[str, np.ndarray] = {}

    def add(self, group: object, bins: np.ndarray) -> None:
        """Add a photo's `reliability` under its source group."""
        self.photos += 1
        self.total += bins
        held = self._groups.setdefault(str(group), np.zeros((2, 3, BINS)))
        held += bins

    def by_group(self, part: int) -> np.ndarray:
        """Calibrated (0) or raw (1) sums of each group, by name: float64 (G, 3 * BINS)."""
        found = [self._groups[name][part].ravel() for name in sorted(self._groups)]
        return np.stack(found) if found else np.zeros((0, 3 * BINS))


def _error(sums: np.ndarray) -> np.ndarray:
    """Expected calibration error of summed bins (R, 3 * BINS): (R,)."""
    weight, prob, truth = np.split(sums, 3, axis=1)
    return np.abs(prob - truth).sum(axis=1) / weight.sum(axis=1)


def calibration_block(
    sums: BinSums, bootstrap: statistics.Bootstrap, found: Calibration
) -> dict[str, Any]:
    """`ece` and `calibration` of the metrics, from the photos whose truth is known."""
    errors = [
        statistics.of_group_sums(sums.by_group(part), sums.photos, _error, bootstrap).as_dict()
        for part in (0, 1)
    ]
    mean = sums.total[0] / max(sums.photos, 1)
    rows = [
        {
            "from": number / BINS,
            "to": (number + 1) / BINS,
            "share": float(weight),
            "probability": float(prob / weight) if weight else None,
            "manipulated": float(truth / weight) if weight else None,
        }
        for number, (weight, prob, truth) in enumerate(mean.T)
    ]
    return {
        "ece": errors[0],
        "calibration": {
            "temperature": found.temperature,
            "image_threshold": found.image_threshold,
            "ece_without_temperature": errors[1],
            "bins": rows,
        },
    }


def balanced_accuracy(
    scores: np.ndarray,
    manipulated: np.ndarray,
    groups: np.ndarray,
    threshold: float | None,
    bootstrap: statistics.Bootstrap,
) -> statistics.Interval:
    """Mean of the shares of manipulated and of authentic photos that are called right.

    A score above `threshold`, which was set on validation photos, calls a photo manipulated. The
    value is None where the threshold or a class is missing. All arrays are (N,).
    """
    if threshold is None or manipulated.all() or not manipulated.any():
        return statistics.Interval(None, None, None, len(scores))
    right = (scores > threshold) == manipulated
    parts = (right & manipulated, manipulated, right & ~manipulated, ~manipulated)

    def share(sums: np.ndarray) -> np.ndarray:
        caught, positive, passed, negative = sums.T
        with np.errstate(invalid="ignore", divide="ignore"):
            return (caught / positive + passed / negative) / 2

    return statistics.of_sums(np.stack(parts, axis=1).astype(float), groups, share, bootstrap)
