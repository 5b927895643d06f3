"""Rates: the exact interval, against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from components.serving.rates import rate

EDGES = [(0, 1), (1, 1), (0, 20), (20, 20), (1, 20), (19, 20), (39_999, 40_000)]
DRAWN = [(int(n * share), n) for n in (3, 57, 999, 30_000) for share in (0.02, 0.3, 0.5, 0.97)]


@pytest.mark.parametrize(("hits", "n"), EDGES + DRAWN)
def test_the_interval_is_clopper_and_pearsons(hits: int, n: int) -> None:
    found, known = rate(hits, n), binomtest(hits, n).proportion_ci(0.95, method="exact")
    assert (found.low, found.high) == pytest.approx((known.low, known.high), abs=1e-10)
    assert found.value == hits / n


def test_it_covers_the_true_rate_in_at_least_95_of_100_cases() -> None:
    random = np.random.default_rng(0)
    for true in (0.01, 0.1, 0.5):
        for n in (20, 100):
            found = [rate(int(hits), n) for hits in random.binomial(n, true, 2000)]
            assert np.mean([one.low <= true <= one.high for one in found]) >= 0.95
