"""Robustness when photos are shared: the evaluation repeated on treated photos.

Treatments act on the photo at its own size, before anything else. Where one changes the size, the
model sees the smaller photo and its map is brought back to the truth's size. Levels that IMDL-BenCo
uses are in params.yaml's comments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from components.core.params import Evaluate
from components.core.progress import Progress
from components.core.seeds import generator
from components.evaluate.run import Predict, evaluate_passes
from components.synthesis import degrade

SOCIAL_SIDE = 1080  # pixels; what social networks keep of the longer side
SHARPENING = 0.3  # that they add after shrinking
METRICS = ("f1", "auc", "image_auc", "false_alarm_area")
Treatment = Callable[[float, np.ndarray], np.ndarray]
Parts = Callable[[str], Progress | None]  # a pass in words to the progress of its photos


def jpeg(quality: float, photo: np.ndarray) -> np.ndarray:
    """Saved as JPEG of this quality, 4:2:0."""
    return degrade.recompress(photo, int(quality))


def blur(kernel: float, photo: np.ndarray) -> np.ndarray:
    """Gaussian blur of an odd kernel, its deviation as OpenCV derives it."""
    return cv2.GaussianBlur(photo, (int(kernel), int(kernel)), 0)


def noise(variance: float, photo: np.ndarray) -> np.ndarray:
    """Gaussian noise of this variance in grey levels, drawn from the photo's own bytes."""
    draw = generator(int(photo.sum(dtype=np.int64)), "noise", photo.shape)
    grains = draw.standard_normal(photo.shape, dtype=np.float32) * np.float32(variance**0.5)
    return degrade.noisy(photo, grains)


def resize(share: float, photo: np.ndarray) -> np.ndarray:
    """Both sides to this share of theirs."""
    return degrade.smaller(photo, share)


def social(quality: float, photo: np.ndarray) -> np.ndarray:
    """A social network's chain: at most 1080 pixels a side, a little sharpening, JPEG twice."""
    photo = resize(min(1.0, SOCIAL_SIDE / max(photo.shape[:2])), photo)
    soft = degrade.blur(photo, 1.0)
    photo = cv2.addWeighted(photo, 1 + SHARPENING, soft, -SHARPENING, 0)
    return jpeg(quality, jpeg(95, photo))  # the uploading phone's JPEG, then the network's


TREATMENTS: dict[str, Treatment] = {
    treat.__name__: treat for treat in (jpeg, blur, noise, resize, social)
}


def _treated(
    treat: Treatment, level: float, predict: Predict, photos: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Probability maps of treated photos, at the photos' own sizes."""
    maps = predict([treat(level, photo) for photo in photos])
    return [
        found
        if found.shape == photo.shape[:2]
        else np.clip(cv2.resize(found, photo.shape[1::-1]), 0, 1)
        for found, photo in zip(maps, photos, strict=True)
    ]


def robustness(
    predict: Predict,
    images: pd.DataFrame,
    root: Path,
    params: Evaluate,
    progress: Parts = lambda _: None,
) -> dict[str, Any]:
    """Metrics at every level of every treatment that the parameters name.

    Arguments as of `run.evaluate`; `progress` is given a level in words.

    Returns:
        Treatment to level (as text) to `METRICS`, each with its interval; a treatment without
        levels is left out.
    """
    every = [(name, level) for name in TREATMENTS for level in getattr(params.robustness, name)]
    passes = [
        (partial(_treated, TREATMENTS[name], level), progress(f"{name} {level:g}"))
        for name, level in every
    ]
    block: dict[str, Any] = {}
    done = evaluate_passes(predict, images, root, params, passes)
    for (name, level), found in zip(every, done, strict=True):
        kept = {key: found.metrics[key] for key in METRICS}
        block.setdefault(name, {})[f"{level:g}"] = kept
    return block
