"""The tests against the champion keep their size on results like real ones: zeros, clusters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from benchmarks.gates import population, simulate
from components.core.errors import InputError
from components.registry.comparison import Trial

TRIAL = Trial(alpha=0.05, resamples=400, seed=1)


def results(seed: int, groups: int = 60) -> pd.DataFrame:
    """Per-photo F1 of a made model: a third zeros, photos of a source alike."""
    random = np.random.default_rng(seed)
    sources = np.repeat(np.arange(groups), random.integers(1, 8, groups))
    base = np.random.default_rng(0).beta(2, 2, groups)[sources]
    f1 = np.clip(base + random.normal(0, 0.15, len(sources)), 0, 1)
    f1[random.random(len(sources)) < 0.3] = 0
    names = [f"p{i}" for i in range(len(sources))]
    return pd.DataFrame({"image_id": names, "group": sources, "f1": f1})


@pytest.mark.parametrize("swapped", [False, True])
def test_neither_test_passes_too_often_and_power_grows(
    campaigns: bool, swapped: bool, record_property: Callable[[str, object], None]
) -> None:
    first = results(1)
    second = first.assign(f1=np.random.default_rng(2).permutation(first["f1"]))
    pair = (second, first) if swapped else (first, second)
    times = 20_000 if campaigns else 2000
    rows = simulate(
        population(*pair, "f1"),
        margin=0.05,
        true=[-0.05, 0.0, 0.1],
        groups=[30, 120],
        trial=TRIAL,
        times=times,
    )
    # Three standard errors above 5 %: what so many draws can tell.
    limit = 0.05 + 3 * np.sqrt(0.05 * 0.95 / times)
    found = {(row["groups"], row["true"]): row for row in rows}
    sizes = [found[g, 0.0]["better"] for g in (30, 120)]
    sizes += [found[g, -0.05]["not_worse"] for g in (30, 120)]
    record_property(f"is the largest size of four tests at 5 %, {times} test sets", max(sizes))
    for groups in (30, 120):
        assert found[groups, 0.0]["better"] <= limit
        assert found[groups, -0.05]["not_worse"] <= limit
    assert found[120, 0.1]["better"] > found[30, 0.1]["better"] > limit


def test_too_few_groups_are_refused() -> None:
    few = results(1, groups=5)
    with pytest.raises(InputError, match="only 5 source groups"):
        population(few, few, "f1")
