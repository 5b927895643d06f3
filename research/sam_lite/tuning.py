"""What a trained `sam_lite` is worth on held-out pairs, and how far its predicted IoU is right."""

from __future__ import annotations

import numpy as np
import pandas as pd

from components.core.progress import Progress
from components.pseudo_label.prompts import fill
from components.pseudo_label.teachers.sam_lite.model import SIZE, SamLiteTeacher, cut, spread
from research.sam_lite import pairs
from research.sam_lite.sources import Sources

_SEED = 20_000


def score(
    teacher: SamLiteTeacher,
    sources: Sources,
    shares: dict[str, float],
    count: int,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Run a teacher over held-out pairs.

    Args:
        teacher: the one to judge.
        sources: held-out ones.
        shares: of the kinds of pairs.
        count: pairs.
        progress: called with (pairs done, pairs).

    Returns:
        One row a pair: kind; iou of the teacher's mask; predicted and agreement (see `Answer` of
        `components.pseudo_label.teachers.sam_lite.model`); confidence; box, IoU of the filled box.
    """
    rows: list[dict[str, float | str]] = []
    for start in range(0, count, teacher.batch):
        end = min(start + teacher.batch, count)
        some = [pairs.make(sources, shares, _SEED, n) for n in range(start, end)]
        crops = [cut(pair.photo, pair.box, SIZE) for pair in some]
        for pair, crop, answer in zip(some, crops, teacher.ask(crops), strict=True):
            height, width = pair.mask.shape
            x0, y0, x1, y1 = crop.window
            mask = np.zeros_like(pair.mask)
            mask[y0:y1, x0:x1] = spread(answer.logits, crop) > 0
            rows.append(
                {
                    "kind": pair.kind,
                    "iou": iou(mask, pair.mask),
                    "predicted": answer.predicted,
                    "agreement": answer.agreement,
                    "confidence": answer.confidence,
                    "box": iou(fill(pair.box, width, height), pair.mask),
                }
            )
        if progress:
            progress(len(rows), count)
    return pd.DataFrame(rows)


def fit(scores: pd.DataFrame) -> tuple[float, float, float]:
    """Constant and slopes of predicted IoU and agreement that foretell IoU with least squares."""
    known = scores[["predicted", "agreement"]].to_numpy(np.float64)
    design = np.column_stack([np.ones(len(known)), known])
    solution, *_ = np.linalg.lstsq(design, scores["iou"].to_numpy(np.float64), rcond=None)
    return float(solution[0]), float(solution[1]), float(solution[2])


def iou(mask: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of two bool masks, 0 where both are empty."""
    return float((mask & truth).sum() / max(1, (mask | truth).sum()))
