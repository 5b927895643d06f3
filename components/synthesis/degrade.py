"""The one degrader: what photos lose when they are passed on. Each user draws its own strengths."""

from __future__ import annotations

import cv2
import numpy as np


def recompress(photo: np.ndarray, quality: int) -> np.ndarray:
    """A photo uint8 (H, W, 3), RGB, through JPEG (4:2:0) of this quality (1..100) and back."""
    # OpenCV's order is BGR; luma and chroma must come from the right channels.
    _, data = cv2.imencode(".jpg", photo[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[:, :, ::-1])


def blur(photo: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of this deviation, in pixels."""
    return cv2.GaussianBlur(photo, (0, 0), sigmaX=sigma)


def noisy(photo: np.ndarray, grains: np.ndarray) -> np.ndarray:
    """A photo uint8 with noise, float of its shape in grey levels, added and rounded."""
    return np.clip(np.rint(photo + grains), 0, 255).astype(np.uint8)


def smaller(photo: np.ndarray, share: float) -> np.ndarray:
    """A photo with both sides at this share (at most 1) of theirs."""
    height, width = (max(1, round(side * share)) for side in photo.shape[:2])
    return cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
