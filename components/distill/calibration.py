"""Calibration on the validation photos: a temperature for the pixels, a threshold for the photo.

The temperature (Guo et al. 2017) calibrates the network's probabilities against the pseudo-masks;
it moves no pixel of the network's own grid across 0.5. The threshold is where balanced accuracy
between manipulated and authentic validation photos is best. Both become part of the student's
config, with the scores of these photos, which tell how often an authentic one scores as high.
Memory does not grow with the number of photos' pixels: logits are counted in fine bins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy.optimize import minimize_scalar

from components.core.metrics import image_score
from components.distill.cache import QUALITY, Decoded
from components.student.config import Scores, ValidationScores
from components.student.infer import BATCH, network, probabilities
from components.student.model import Student

REACH, BINS = 16.0, 3200  # logits -16..16; float32 probabilities reach no further
COOLEST, HOTTEST = 0.05, 20.0


def calibrate(student: Student, data: Decoded) -> None:
    """Set what the validation photos decide in the student's config, in place."""
    counts = np.zeros((2, BINS))  # weight of all pixels, and of manipulated ones
    for row, found in _predicted(network, student, data):
        target = data.photo(row)[1].ravel() / 255
        counts += _binned(found.ravel(), target)
    config = student.config.model_copy(update={"temperature": fit_temperature(*counts)})
    student.config = config
    scores = np.array([image_score(found) for _, found in _predicted(probabilities, student, data)])
    manipulated = data.manipulated[data.val]
    decided = {
        "image_threshold": best_threshold(scores, manipulated),
        "validation_scores": _kept(scores, manipulated, data) if len(scores) else None,
    }
    student.config = config.model_copy(update=decided)


def _kept(scores: np.ndarray, manipulated: np.ndarray, data: Decoded) -> ValidationScores:
    """The scores of the validation photos, both (N,), by class."""
    return ValidationScores(
        side=data.photos.shape[1],
        jpeg_quality=QUALITY,
        authentic=Scores.of(scores[~manipulated]),
        manipulated=Scores.of(scores[manipulated]),
    )


def _predicted(
    answer: Callable[[Student, Sequence[np.ndarray]], list[np.ndarray]],
    student: Student,
    data: Decoded,
) -> Iterator[tuple[int, np.ndarray]]:
    """Each validation photo's row and its probability map, float32 (H, W)."""
    for start in range(0, len(data.val), BATCH):
        rows = data.val[start : start + BATCH].tolist()
        yield from zip(rows, answer(student, [data.photo(r)[0] for r in rows]), strict=True)


def _binned(probability: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Pixels by logit: weights of all and of the manipulated ones, (2, BINS); 1 for the photo."""
    clipped = np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7)
    logit = np.log(clipped) - np.log1p(-clipped)
    place = ((logit + REACH) * (BINS / (2 * REACH))).astype(np.int64).clip(0, BINS - 1)
    weights = (np.ones_like(clipped), target)
    return np.stack([np.bincount(place, w, BINS) for w in weights]) / len(clipped)


def fit_temperature(pixels: np.ndarray, manipulated: np.ndarray) -> float:
    """The temperature T that minimises the cross-entropy of sigmoid(logit / T).

    Args:
        pixels: (BINS,), weight of the pixels in each bin of logits.
        manipulated: (BINS,), the part of it that is manipulated.

    Returns:
        T, between 0.05 and 20, to four digits.
    """
    logits = (np.arange(BINS) + 0.5) * (2 * REACH / BINS) - REACH

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float((pixels * np.logaddexp(0, scaled) - manipulated * scaled).sum())

    bounds = (np.log(COOLEST), np.log(HOTTEST))
    return float(f"{np.exp(minimize_scalar(loss, bounds=bounds, method='bounded').x):.4g}")


def best_threshold(scores: np.ndarray, manipulated: np.ndarray) -> float | None:
    """The score above which a photo is called manipulated; None where there is one class only.

    Args:
        scores: (N,), image scores in 0..1.
        manipulated: bool (N,).

    Returns:
        The middle between two neighbouring scores with the highest balanced accuracy; of several
        equal ones the lowest.
    """
    if manipulated.all() or not manipulated.any():
        return None
    known = np.unique(scores)
    cuts = np.concatenate([[0.0], (known[1:] + known[:-1]) / 2])
    positive, negative = np.sort(scores[manipulated]), np.sort(scores[~manipulated])
    caught = 1 - np.searchsorted(positive, cuts, side="right") / len(positive)
    passed = np.searchsorted(negative, cuts, side="right") / len(negative)
    return round(float(cuts[np.argmax(caught + passed)]), 6)
