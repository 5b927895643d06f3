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

from components.core.errors import InputError
from components.core.seeds import generator
from components.registry.comparison import Trial, group_bounds, group_means

_FEWEST = 10  # groups without which there is no population to draw from


@dataclass(frozen=True)
class Population:
    """Differences by source group, float64 (G,), and photos in each (G,); shifted on drawing."""

    values: np.ndarray
    photos: np.ndarray

    def draw(
        self, shape: tuple[int, int], true: float, random: np.random.Generator
    ) -> tuple[np.ndarray, float]:
        """Test sets, float64 (T, G), whose true mean is `true`; and the mean photos in one."""
        chosen = random.integers(0, len(self.values), shape)
        photos = float(self.photos[chosen].sum(axis=1).mean())
        return self.values[chosen] + (true - self.values.mean()), photos


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
    groups = both["group"].astype(str).to_numpy()
    _, photos = np.unique(groups, return_counts=True)
    if len(photos) < _FEWEST:
        raise InputError(
            f"only {len(photos)} source groups have {column!r} from both", hint="use more photos"
        )
    return Population(group_means(values, groups), photos)


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
        One row each: groups, photos (mean), true, not_worse, better.
    """
    random = generator(trial.seed, "simulation")
    rows = []
    for count in groups:
        for difference in true:
            values, photos = drawn_from.draw((times, count), difference, random)
            low, _ = group_bounds(values, trial)
            rows.append(
                {
                    "groups": count,
                    "photos": round(photos),
                    "true": difference,
                    "not_worse": float((low > -margin).mean()),
                    "better": float((low > 0).mean()),
                }
            )
    return rows
