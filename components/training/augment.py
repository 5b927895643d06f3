"""Augmentation: flips, zooms, JPEG recompression, blur and noise, drawn per (epoch, photo).

Nothing here knows whether a photo is manipulated: both kinds are treated alike, so that no trace
of the treatment tells them apart. Each photo has its own random stream, so the order in which they
are made, or a resumed run, changes nothing.
"""

from __future__ import annotations

import cv2
import numpy as np

from components.seeds import generator

FLIP, JPEG, BLUR, NOISE = 0.5, 0.5, 0.2, 0.2  # how often each is applied
ZOOM, SIDE = 0.8, (0.5, 1.0)  # how often, and the side of the square kept, of the view
QUALITY = (60, 100)  # JPEG, both inclusive
SIGMA = (0.4, 1.2)  # blur, pixels of the student's view
DEVIATION = (1.0, 6.0)  # noise, grey levels


def augment(
    photo: np.ndarray, mask: np.ndarray, seed: int, epoch: int, row: int
) -> tuple[np.ndarray, np.ndarray]:
    """One augmented copy of a photo and its mask.

    Args:
        photo: uint8 (S, S, 3), RGB.
        mask: uint8 (S, S).
        seed: of the training.
        epoch: from 1.
        row: of the photo in the data.

    Returns:
        New arrays of the same shapes; flips and zooms move the mask with the photo.
    """
    draw = generator(seed, "augment", epoch, row)
    if draw.random() < FLIP:
        photo, mask = photo[:, ::-1], mask[:, ::-1]
    if draw.random() < FLIP:
        photo, mask = photo[::-1], mask[::-1]
    if draw.random() < ZOOM:
        photo, mask = _zoom(photo, mask, draw)
    photo = np.ascontiguousarray(photo)
    if draw.random() < BLUR:
        photo = cv2.GaussianBlur(photo, (0, 0), sigmaX=draw.uniform(*SIGMA))
    if draw.random() < NOISE:
        photo = _noise(photo, draw)
    if draw.random() < JPEG:
        photo = recompress(photo, int(draw.integers(QUALITY[0], QUALITY[1] + 1)))
    return photo, np.ascontiguousarray(mask)


def _zoom(
    photo: np.ndarray, mask: np.ndarray, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A random square of both, at the full size: without it small sets are learnt by heart."""
    size = len(mask)
    side = round(size * draw.uniform(*SIDE))
    top, left = draw.integers(0, size - side + 1, 2)
    place = np.s_[top : top + side, left : left + side]
    return cv2.resize(photo[place], (size, size)), cv2.resize(mask[place], (size, size))


def _noise(photo: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Gaussian noise of a random deviation."""
    grains = draw.standard_normal(photo.shape, dtype=np.float32) * draw.uniform(*DEVIATION)
    return np.clip(photo + grains, 0, 255).round().astype(np.uint8)


def recompress(photo: np.ndarray, quality: int) -> np.ndarray:
    """A photo uint8 (H, W, 3), RGB, through JPEG of this quality (1..100) and back."""
    # OpenCV's order is BGR; luma and chroma must come from the right channels.
    _, data = cv2.imencode(".jpg", photo[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[:, :, ::-1]
