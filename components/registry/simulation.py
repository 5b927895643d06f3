"""How often the tests against the champion pass: simulated from real per-photo results.

The differences of two real models, photo by photo, are the population. It is shifted to a known
true difference; test sets are drawn from it by whole source groups; each is tested as a promotion
would be. At no difference superiority may pass with probability alpha at most, at a loss of exactly
the margin non-inferiority likewise; elsewhere the share that passes is the power.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from components.errors import InputError
from components.evaluation.statistics import Bootstrap, mean
from components.registry.rivalry import Trial, group_bounds
from components.seeds import generator

_FEWEST = 10  # groups without which there is no population to draw from


@dataclass(frozen=True)
class Population:
    """Differences by source group: sums float64 (G,), photos in each (G,); shifted on drawing."""

    sums: np.ndarray
    sizes: np.ndarray

    def draw(
        self, groups: int, true: float, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """A test set of so many groups in which the true mean difference is `true`."""
        chosen = random.integers(0, len(self.sums), groups)
        centre = self.sums.sum() / self.sizes.sum()
        sizes = self.sizes[chosen]
        return self.sums[chosen] + (true - centre) * sizes, sizes


def population(first: pd.DataFrame, second: pd.DataFrame, column: str) -> Population:
    """The differences of two tables of per-photo results (`image_id`, `group`, a number).

    Raises:
        InputError: too few groups with a number from both.
    """
    both = first[["image_id", "group", column]].merge(
        second[["image_id", column]], on="image_id", suffixes=("", "_2")
    )
    both = both.dropna(subset=[column, f"{column}_2"])
    values = (both[column] - both[f"{column}_2"]).to_numpy(dtype=float)
    _, codes = np.unique(both["group"].astype(str), return_inverse=True)
    sizes = np.bincount(codes).astype(float)
    if len(sizes) < _FEWEST:
        raise InputError(
            f"only {len(sizes)} source groups have {column!r} from both", mend="use more photos"
        )
    return Population(np.bincount(codes, weights=values), sizes)


def simulate(
    drawn_from: Population,
    *,
    margin: float,
    true: list[float],
    groups: list[int],
    trial: Trial,
    times: int,
) -> list[dict[str, Any]]:
    """The share of drawn test sets whose bounds pass, for each size and true difference.

    Args:
        drawn_from: the population.
        margin: loss that non-inferiority allows.
        true: true differences; `-margin` and 0 are where the tests must keep their size.
        groups: source groups in a test set.
        trial: alpha, resamples and seed.
        times: test sets drawn for each.

    Returns:
        One row each: groups, photos (mean), true, not_worse, better, and for comparison
        better_percentile, what a plain percentile bootstrap would have passed.
    """
    random = generator(trial.seed, "simulation")
    plain = Bootstrap(trial.resamples, 1 - 2 * trial.alpha, trial.seed)
    rows = []
    for count in groups:
        for difference in true:
            passed = np.zeros(3)
            photos = 0.0
            for _ in range(times):
                sums, sizes = drawn_from.draw(count, difference, random)
                low, _ = group_bounds(sums, sizes, trial)
                percentile = _percentile(sums, sizes, plain)
                found = -np.inf if low is None else low
                passed += [found > -margin, found > 0, percentile > 0]
                photos += sizes.sum()
            share = dict(
                zip(("not_worse", "better", "better_percentile"), passed / times, strict=True)
            )
            rows.append(
                {"groups": count, "photos": round(photos / times), "true": difference, **share}
            )
    return rows


def _percentile(sums: np.ndarray, sizes: np.ndarray, plain: Bootstrap) -> float:
    """The lower percentile bound of the same mean; every photo of a group at the group's mean."""
    counts = sizes.astype(int)
    found = mean(np.repeat(sums / sizes, counts), np.repeat(np.arange(len(sums)), counts), plain)
    return -np.inf if found.low is None else found.low
