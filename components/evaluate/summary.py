"""The block of metrics that per-photo rows come to, whole and in parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from components.core.params import Evaluate
from components.data.manifest import MANIPULATED
from components.evaluate import statistics
from components.evaluate.calibration import (
    BinSums,
    Calibration,
    balanced_accuracy,
    calibration_block,
)

MEANS = ("f1", "iou", "mcc", "auc", "false_alarm_area", "imdlbenco_f1")
PARTS = ("f1", "iou", "auc")  # of a slice of the manipulated photos
QUANTILES = 5
Block = dict[str, Any]


def summarise(
    images: pd.DataFrame, bins: BinSums, params: Evaluate, calibration: Calibration
) -> Block:
    """All metrics, each `{value, low, high, n}`: finite numbers or None throughout.

    Args:
        images: rows of `run.IMAGES`.
        bins: of the photos whose truth is known.
        params: resamples, confidence, seed.
        calibration: what the model brought from its validation photos.

    Returns:
        `f1`, `iou`, `mcc`, `auc`, `false_alarm_area`, `image_auc`, `balanced_accuracy`, `ece` and
        `imdlbenco_f1`; `calibration` (temperature, threshold, reliability by bin); `groups` by
        kind; `slices` by method, shape and area; counts.
    """
    bootstrap = statistics.Bootstrap(params.bootstrap, params.confidence, params.seed)
    groups = images["group"].to_numpy()
    manipulated = (images["label"] == MANIPULATED).to_numpy()
    scores = images["score"].to_numpy()

    def mean(name: str, rows: np.ndarray | slice = slice(None)) -> Block:
        return statistics.mean(images[name].to_numpy()[rows], groups[rows], bootstrap).as_dict()

    block: Block = {name: mean(name) for name in MEANS}
    block["image_auc"] = statistics.auc(scores, manipulated, groups, bootstrap).as_dict()
    block["balanced_accuracy"] = balanced_accuracy(
        scores, manipulated, groups, calibration.image_threshold, bootstrap
    ).as_dict()
    block |= calibration_block(bins, bootstrap, calibration)
    kinds = images["kind"].where(manipulated)
    block["groups"] = _parts(kinds, mean)
    block["slices"] = {
        "method": _parts(_half(kinds, 0), mean),
        "shape": _parts(_half(kinds, 1), mean),
        "area": _by_area(images["true_area"].where(manipulated), mean),
    }
    block["n_manipulated"] = int(manipulated.sum())
    block["n_authentic"] = int((~manipulated).sum())
    block["n_without_mask"] = int((manipulated & images["f1"].isna().to_numpy()).sum())
    block["n_groups"] = int(images["group"].nunique())
    return block


def _half(kinds: pd.Series, place: int) -> pd.Series:
    """Of kinds such as `splice/free` the method (0) or the shape (1), None where there is none."""

    def half(kind: object) -> str | None:
        parts = kind.split("/") if isinstance(kind, str) else []
        return parts[place] if place < len(parts) else None

    return kinds.map(half)


def _parts(names: pd.Series, mean: Callable[[str, np.ndarray], Block]) -> Block:
    """Metrics of the photos of each name."""
    return {
        name: {metric: mean(metric, (names == name).to_numpy()) for metric in PARTS}
        for name in sorted(names.dropna().unique())
    }


def _by_area(areas: pd.Series, mean: Callable[[str, np.ndarray], Block]) -> Block:
    """Metrics by fifths of the manipulated photos, from the smallest manipulated area up.

    Each names its range of area, a share of the photo.
    """
    known = areas.dropna()
    if known.nunique() < QUANTILES:
        return {}
    edges = np.quantile(known, np.linspace(0, 1, QUANTILES + 1))
    place = np.searchsorted(edges[1:-1], areas.to_numpy(), side="left")
    found: Block = {}
    for number in range(QUANTILES):
        rows = (place == number) & areas.notna().to_numpy()
        part: Block = {"from": float(edges[number]), "to": float(edges[number + 1])}
        found[str(number + 1)] = part | {metric: mean(metric, rows) for metric in PARTS}
    return found
