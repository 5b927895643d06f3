"""How far two people agree about the photos that both have decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from components.annotate.decisions import Decision, by_photo
from components.data.manifest import MANIPULATED


@dataclass(frozen=True)
class Agreement:
    """Of the first two opinions about each photo that has two.

    Attributes:
        photos: how many have two.
        kappa: Cohen's, of the marks; None without such photos, or where chance alone would agree.
        mean_iou: of the boxes of photos that both call manipulated, matched one to one for the
            highest sum; a box without a partner counts 0. None without such photos.
    """

    photos: int
    kappa: float | None
    mean_iou: float | None


def agreement(decisions: Sequence[Decision]) -> Agreement:
    """Compare the opinions about photos that have two."""
    pairs = [(one[0], one[1]) for one in by_photo(decisions).values() if len(one) > 1]
    overlaps = [
        iou
        for one, other in pairs
        if one.mark == other.mark == MANIPULATED
        for iou in matched(one.boxes, other.boxes)
    ]
    kappa = cohens_kappa([(one.mark, other.mark) for one, other in pairs])
    return Agreement(len(pairs), kappa, float(np.mean(overlaps)) if overlaps else None)


def cohens_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Agreement beyond chance, 1 at most."""
    if not pairs:
        return None
    seen = np.mean([one == other for one, other in pairs])
    first, second = (Counter(pair[side] for pair in pairs) for side in (0, 1))
    chance = sum(first[mark] * second[mark] for mark in first) / len(pairs) ** 2
    return None if chance == 1 else float((seen - chance) / (1 - chance))


def matched(some: Sequence[Sequence[float]], others: Sequence[Sequence[float]]) -> list[float]:
    """IoU of the boxes x0, y0, x1, y1 of two lists, matched one to one; 0 for those left over."""
    table = np.array([[_iou(one, other) for other in others] for one in some])
    table = table.reshape(len(some), len(others))
    found = table[linear_sum_assignment(table, maximize=True)].tolist()
    return found + [0.0] * (max(len(some), len(others)) - len(found))


def _iou(one: Sequence[float], other: Sequence[float]) -> float:
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    common = float(np.prod(np.clip(sides, 0, None)))
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return common / (areas - common)
