"""Whether a photo is one that the student can say something about.

Scoring abstains from others; prediction answers, and tells the reason beside its answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Limits:
    """Below these a photo is unsuitable.

    Attributes:
        side: pixels of a photo's shorter side.
        quality: JPEG quality, 1..100; traces of an edit do not survive less.
    """

    side: int = 64
    quality: int = 30


def unsuitable(photo: np.ndarray, quality: float | None, limits: Limits) -> str | None:
    """Why a photo is unsuitable, in a few words; None for a suitable one.

    Args:
        photo: uint8 (H, W, 3).
        quality: of its JPEG file (`components.core.jpeg`), None for other files.
        limits: below them it is unsuitable.
    """
    height, width = photo.shape[:2]
    if min(height, width) < limits.side:
        return f"too small ({width}x{height})"
    # Row by row: nearly every photo is told from a plain one by its first.
    if all((row == photo[0, 0]).all() for row in photo):
        return "featureless (all pixels are equal)"
    if quality is not None and quality < limits.quality:
        return f"recompressed too strongly (JPEG quality about {quality:.0f})"
    return None
