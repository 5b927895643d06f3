"""How often photos of known class score as high, with exact binomial intervals.

Clopper and Pearson (1934): the interval covers the true rate in at least 95 % of cases, whatever it
is, also where 0 or all photos are counted. Computed by bisection, so that no scipy is needed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_TAIL = 0.025  # on each side, for 95 %
_HALVINGS = 60


class Rate(NamedTuple):
    """`hits` of `n` photos and the interval of the rate behind it, all in 0..1."""

    hits: int
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share."""
        return self.hits / self.n


def rate(hits: int, n: int) -> Rate:
    """`hits` of `n` photos, `n` at least 1, with its 95 % interval."""
    return Rate(hits, n, _low(hits, n), 1 - _low(n - hits, n))


def _low(hits: int, n: int) -> float:
    """The rate at which so many hits or more have a chance of 2.5 %."""
    if hits == 0:
        return 0.0
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    counts = np.arange(hits, n + 1)
    ways = factorials[n] - factorials[counts] - factorials[n - counts]
    low, high = 0.0, hits / n
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        chances = ways + counts * np.log(middle) + (n - counts) * np.log1p(-middle)
        low, high = (middle, high) if np.exp(chances).sum() < _TAIL else (low, middle)
    return low
