"""How an answer holds when the photo is saved again or made smaller, as sharing does to it.

Pillow does both: what serves runs without OpenCV, which training and evaluation use for the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image

from components.core.metrics import THRESHOLD
from components.serving.inference import Limits, unsuitable
from components.serving.predictor import Prediction, Predictor

Treatment = Callable[[np.ndarray], np.ndarray]
QUALITIES, SHARES = (95, 85, 75, 60), (0.75, 0.5)


class Variant(NamedTuple):
    """The answer for a photo that was treated."""

    name: str
    score: float
    area: float  # share of its pixels above 0.5
    above: bool | None  # whether the score is above the image threshold; None without one
    overlap: float | None  # IoU of the regions, at the photo's own size; None where both are empty
    unsuitable: str | None  # why its answer says little, although the photo itself is suitable


def variants(
    photo: np.ndarray, found: Prediction, predictor: Predictor, threshold: float | None
) -> list[Variant]:
    """The answers for the photo, uint8 (H, W, 3), recompressed and resized, one after another.

    Raises:
        InputError: the model's answer for one of them is unusable.
    """
    region = found.probability > THRESHOLD
    judged = unsuitable(photo, None, Limits()) is None
    rows = []
    for name, treat in _treatments():
        treated = treat(photo)
        (answer,) = predictor.predict([treated])
        score = round(answer.score, 6)
        rows.append(
            Variant(
                name,
                score,
                answer.area,
                None if threshold is None else score > threshold,
                _overlap(region, answer.probability),
                unsuitable(treated, None, Limits()) if judged else None,
            )
        )
    return rows


def _treatments() -> list[tuple[str, Treatment]]:
    saved: list[tuple[str, Treatment]] = [
        (f"saved as JPEG, quality {quality}", partial(recompressed, quality=quality))
        for quality in QUALITIES
    ]
    return saved + [
        (f"sides at {share:.0%}".replace("%", " %"), partial(smaller, share=share))
        for share in SHARES
    ]


def recompressed(photo: np.ndarray, quality: int) -> np.ndarray:
    """The photo through JPEG (4:2:0) of this quality and back."""
    file = BytesIO()
    Image.fromarray(photo).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return np.asarray(Image.open(file))


def smaller(photo: np.ndarray, share: float) -> np.ndarray:
    """The photo with both sides at this share of theirs."""
    height, width = (max(1, round(side * share)) for side in photo.shape[:2])
    return np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.BOX))


def _overlap(region: np.ndarray, probability: np.ndarray) -> float | None:
    """IoU of a region, bool (H, W), with a probability map, float32, of any size."""
    if probability.shape != region.shape:
        enlarged = Image.fromarray(probability).resize(
            region.shape[::-1], Image.Resampling.BILINEAR
        )
        probability = np.asarray(enlarged)
    other = probability > THRESHOLD
    union = np.count_nonzero(region | other)
    return np.count_nonzero(region & other) / union if union else None
