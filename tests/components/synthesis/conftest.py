"""Small photos and cut-outs, made in the test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image


def _photo(seed: int, height: int = 120, width: int = 180) -> np.ndarray:
    """Uneven, noisy ground with a few discs that stand out, uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(60, 180, (5, 7, 3)).astype(np.float32)
    photo = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(4):
        x, y, radius = (
            int(rng.integers(*limits)) for limits in ((0, width), (0, height), (10, 22))
        )
        cv2.circle(photo, (x, y), radius, rng.uniform(0, 255, 3).tolist(), -1)
    photo += rng.normal(0, 5, photo.shape)
    return np.clip(photo, 0, 255).astype(np.uint8)


def _cutout(seed: int, height: int = 60, width: int = 70) -> np.ndarray:
    """A textured ellipse with a clear rim, uint8 (H, W, 4)."""
    rng = np.random.default_rng(seed)
    colour = rng.uniform(0, 255, 3) + rng.normal(0, 15, (height, width, 3))
    alpha = np.zeros((height, width), np.uint8)
    centre, axes = (width // 2, height // 2), (width // 2 - 4, height // 2 - 4)
    cv2.ellipse(alpha, centre, axes, 0, 0, 360, 255, -1)
    return np.dstack([np.clip(colour, 0, 255).astype(np.uint8), alpha])


@pytest.fixture(scope="session")
def make_photo() -> Callable[..., np.ndarray]:
    """`make_photo(seed, height=120, width=180)`."""
    return _photo


@pytest.fixture(scope="session")
def make_cutout() -> Callable[..., np.ndarray]:
    """`make_cutout(seed, height=60, width=70)`."""
    return _cutout


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[Path]]:
    """Eight photos (one of them upright) and five cut-outs on disk."""
    folder = tmp_path_factory.mktemp("sources")
    photos, cutouts = [], []
    for seed in range(8):
        shape = (180, 120) if seed == 3 else (120, 180)
        photos.append(folder / f"photo{seed}.png")
        Image.fromarray(_photo(seed, *shape)).save(photos[-1])
    for seed in range(5):
        cutouts.append(folder / f"object{seed}.png")
        Image.fromarray(_cutout(seed)).save(cutouts[-1])
    return photos, cutouts
