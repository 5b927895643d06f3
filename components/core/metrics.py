"""What is measured on one photo: pixel metrics of a probability map against the true mask.

Everything is computed at the photo's native size, on the probabilities as the model gave them
(never min-max normalised: a stretched map would always fire on an authentic photo), at a fixed
threshold (BoxPromptIML, arXiv 2511.20359, reports F1 at 0.5).
"""

from __future__ import annotations

import math

import numpy as np

THRESHOLD = 0.5
SCORE_SHARE = 0.01  # of the pixels, the highest ones, that make an image's score
_BENCO_EPSILON = 1e-8  # in IMDL-BenCo's precision, recall and F1
NAN = float("nan")


def check_probability(prob: np.ndarray, shape: tuple[int, int]) -> None:
    """Raise ValueError unless `prob` is float32, of this (H, W), finite and within 0..1."""
    if prob.dtype != np.float32 or prob.shape != shape:
        raise ValueError(f"expected float32 {shape}, not {prob.dtype} {prob.shape}")
    # min and max carry NaN through, so two reductions see every bad value.
    low, high = float(prob.min()), float(prob.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"probabilities range over {low:g}..{high:g}, not within 0..1")


def image_score(prob: np.ndarray) -> float:
    """How manipulated a photo looks as a whole: the mean of its highest 1 % of pixels.

    The maximum would hang on a single pixel, the mean over the photo would miss small edits.
    `prob` is float32 (H, W); at least one pixel is taken.
    """
    flat = prob.ravel()
    taken = max(1, round(SCORE_SHARE * flat.size))
    return float(np.partition(flat, flat.size - taken)[-taken:].mean(dtype=np.float64))


def predicted_area(prob: np.ndarray, threshold: float = THRESHOLD) -> float:
    """Share of the photo's pixels whose probability is above the threshold (strictly)."""
    return int(np.count_nonzero(prob > threshold)) / prob.size


def pixel_auc(prob: np.ndarray, mask: np.ndarray) -> float:
    """Area under the ROC curve over the pixels of one photo, exact.

    By rank (Mann-Whitney): the share of manipulated/authentic pixel pairs in the right order, a
    tie counting half; no binning. NaN where the mask has only one of the two.
    """
    inside, outside = np.sort(prob[mask]), np.sort(prob[~mask])
    if not inside.size or not outside.size:
        return NAN
    below = np.searchsorted(outside, inside, side="left").sum(dtype=np.int64)
    not_above = np.searchsorted(outside, inside, side="right").sum(dtype=np.int64)
    return float((below + not_above) / (2.0 * inside.size * outside.size))


def _benco_f1(tp: int, fp: int, fn: int) -> float:
    """One image's F1 as IMDL-BenCo computes it: 0 wherever there is no true positive."""
    precision = tp / (tp + fp + _BENCO_EPSILON)
    recall = tp / (tp + fn + _BENCO_EPSILON)
    return 2 * precision * recall / (precision + recall + _BENCO_EPSILON)


def matthews(tp: int, fp: int, fn: int, tn: int) -> float:
    """Matthews correlation of a photo's pixels, -1..1; 0 where a row or column is empty."""
    root = math.sqrt(tp + fp) * math.sqrt(tp + fn) * math.sqrt(tn + fp) * math.sqrt(tn + fn)
    return (tp * tn - fp * fn) / root if root else 0.0


def image_metrics(
    prob: np.ndarray, mask: np.ndarray | None, threshold: float = THRESHOLD
) -> dict[str, float]:
    """All metrics of one photo.

    Args:
        prob: float32 (H, W), probability of manipulation at native size.
        mask: bool (H, W), the truth; all false for an authentic photo; None where it is unknown.
        threshold: a pixel is predicted manipulated where its probability is strictly above.

    Returns:
        `score` (see `image_score`) and `area` (predicted share) always; `true_area` (the mask's
        share), `f1`, `iou`, `mcc` and `auc` where the mask holds manipulated pixels;
        `false_alarm_area` (share of the photo wrongly marked) where the mask is all false;
        `imdlbenco_f1` (IMDL-BenCo's per-image F1, where a perfectly predicted authentic photo
        scores 0) with any mask. NaN where undefined.

    Raises:
        ValueError: wrong dtype or shape, NaN, or values outside 0..1.
    """
    check_probability(prob, prob.shape[:2] if mask is None else mask.shape)
    names = ("f1", "iou", "mcc", "auc", "false_alarm_area", "imdlbenco_f1", "true_area")
    row = dict.fromkeys(names, NAN)
    predicted = prob > threshold
    marked = int(np.count_nonzero(predicted))
    row |= {"score": image_score(prob), "area": marked / prob.size}
    if mask is None:
        return row
    tp = int(np.count_nonzero(predicted & mask))
    fp, fn = marked - tp, int(np.count_nonzero(mask)) - tp
    row["imdlbenco_f1"] = _benco_f1(tp, fp, fn)
    if tp + fn:
        row["f1"] = 2 * tp / (2 * tp + fp + fn)
        row["iou"] = tp / (tp + fp + fn)
        row["mcc"] = matthews(tp, fp, fn, prob.size - tp - fp - fn)
        row["auc"] = pixel_auc(prob, mask)
        row["true_area"] = (tp + fn) / prob.size
    else:
        row["false_alarm_area"] = row["area"]
    return row
