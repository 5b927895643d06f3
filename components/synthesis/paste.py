"""The one paste: a layer laid over a photo by its coverage.

Demo data, splices on the fly and the recipes of `research` blend with it, each its own layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Layer:
    """What is laid over a photo, or over a window of one.

    Attributes:
        pixels: float32 (H, W, C) in 0..255, or whatever broadcasts to it.
        alpha: float32 (H, W) in 0..1; zero where the photo shows unchanged.
    """

    pixels: np.ndarray
    alpha: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """The manipulated pixels, bool (H, W)."""
        return self.alpha > 0.5


def blend(photo: np.ndarray, layer: Layer) -> np.ndarray:
    """Lay a layer over uint8 (H, W, C): a new array; bit for bit the photo where alpha is 0."""
    mixed = photo + layer.alpha[..., None] * (layer.pixels - photo)
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def premultiplied(rgba: np.ndarray) -> np.ndarray:
    """RGBA uint8 as float32, alpha in 0..1, whose colours carry their alpha.

    Resampled like this, the colour behind an object's edge never bleeds in.
    """
    alpha = rgba[..., 3:].astype(np.float32) / 255
    return np.concatenate([rgba[..., :3] * alpha, alpha], axis=2)


def lifted(picture: np.ndarray) -> Layer:
    """The layer of a premultiplied picture, after it was resampled."""
    alpha = np.clip(picture[..., 3], 0, 1)
    pixels = picture[..., :3] / np.maximum(alpha, 1e-3)[..., None]
    return Layer(np.clip(pixels, 0, 255), alpha)


def bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    """`x0, y0, x1, y1` of a non-empty bool mask, half-open, in pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
