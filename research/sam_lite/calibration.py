"""Is a confidence of 0.7 worth an IoU of 0.7? Bins and a picture of confidence against true IoU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from components.core.files import atomic

_BINS = 10


def calibration(rows: pd.DataFrame) -> list[dict[str, float]]:
    """Mean confidence and mean true IoU in equally filled bins of confidence.

    Args:
        rows: columns `confidence` and `iou`; rows without either are left out.

    Returns:
        At most ten of `confidence`, `iou`, `n`, by confidence.
    """
    known = rows.dropna(subset=["confidence", "iou"]).sort_values("confidence", kind="stable")
    parts = [part for part in np.array_split(np.arange(len(known)), _BINS) if len(part)]
    bins = [known.iloc[part] for part in parts]
    return [
        {
            "confidence": float(part["confidence"].mean()),
            "iou": float(part["iou"].mean()),
            "n": len(part),
        }
        for part in bins
    ]


def picture(path: Path, rows: pd.DataFrame, title: str) -> None:
    """A PNG: every mask as a dot, the bins as a line, the diagonal where both would agree."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot(
        xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="IoU with the true mask", title=title
    )
    axes.set_aspect("equal")
    axes.plot([0, 1], [0, 1], color="#888888", linewidth=1, linestyle="--")
    axes.scatter(rows["confidence"], rows["iou"], s=8, alpha=0.35, color="#1e78e6", linewidths=0)
    bins = pd.DataFrame(calibration(rows), columns=["confidence", "iou", "n"])
    axes.plot(bins["confidence"], bins["iou"], color="#e6283c", marker="o", markersize=4)
    with atomic(path) as temporary:
        figure.savefig(temporary)
