"""Post-processing that authentic and manipulated photos share, so that it tells nothing of either.

Every draw here comes from one distribution for both: JPEG tables, resampling and noise are no
shortcut for a detector.
"""

from __future__ import annotations

from io import BytesIO

import cv2
import numpy as np
from PIL import Image

from components.core.images import decode_photo
from components.synthesis.degrade import noisy


def recorded(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A photo as its camera saved it, before anybody edits it: JPEG at quality 85-96."""
    return decode_photo(encode(photo, int(rng.integers(85, 97))), "photo")


def published(photo: np.ndarray, rng: np.random.Generator) -> bytes:
    """A photo as it is passed on: sometimes resampled or noisy, always re-saved as JPEG.

    Args:
        photo: uint8 (H, W, 3); its size is kept.
        rng: draws resampling (1 in 4), noise (1 in 4) and JPEG quality (70-95).
    """
    height, width = photo.shape[:2]
    if rng.random() < 0.25:
        scale = rng.uniform(0.7, 0.95)
        small = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        photo = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.25:
        photo = noisy(photo, rng.normal(0, rng.uniform(1, 3), photo.shape))
    return encode(photo, int(rng.integers(70, 96)))


def encode(photo: np.ndarray, quality: int) -> bytes:
    """JPEG bytes of uint8 (H, W, 3), 4:2:0, standard tables."""
    buffer = BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return buffer.getvalue()
