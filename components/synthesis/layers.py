"""Layers: an object to be laid over a photo - placed, matched in colour and noise.

Outside a layer's alpha the photo stays as it is, bit for bit; the mask is alpha > 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from components.synthesis.paste import Layer, lifted, premultiplied
from components.synthesis.regions import surroundings

_GREY = 1.5  # mean distance from the grey axis of CIELAB


@dataclass(frozen=True)
class Pose:
    """How an object is laid on: scale, turn in degrees, mirrored or not, centre in pixels."""

    scale: float
    turn: float
    mirrored: bool
    x: float
    y: float


def place(rgba: np.ndarray, pose: Pose, height: int, width: int, feather: float) -> Layer:
    """Scale, mirror, turn and move an object onto a canvas.

    Args:
        rgba: uint8 (h, w, 4), the object.
        pose: where it goes.
        height: of the canvas, in pixels.
        width: of the canvas, in pixels.
        feather: standard deviation of the blur of its edge, in pixels.
    """
    image = premultiplied(rgba)
    if pose.mirrored:
        image = image[:, ::-1]
    if pose.scale < 1:
        image = cv2.resize(image, None, fx=pose.scale, fy=pose.scale, interpolation=cv2.INTER_AREA)
    rest = max(1.0, pose.scale)
    rows, columns = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((columns - 1) / 2, (rows - 1) / 2), pose.turn, rest)
    matrix[:, 2] += (pose.x - (columns - 1) / 2, pose.y - (rows - 1) / 2)
    laid = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR)
    layer = lifted(laid)
    return Layer(layer.pixels, feathered(layer.alpha, feather))


def feathered(alpha: np.ndarray, feather: float) -> np.ndarray:
    """Soften an edge inwards, so that no pixel outside the object's own alpha is touched."""
    soft = cv2.GaussianBlur(alpha, (0, 0), feather) if feather > 0 else alpha
    soft = np.minimum(soft, alpha)
    return np.where(soft < 0.02, 0, soft).astype(np.float32)


def matched(photo: np.ndarray, layer: Layer, strength: float) -> Layer:
    """Move the object's brightness, contrast and colour towards what surrounds it.

    Args:
        photo: uint8 (H, W, 3).
        layer: the object.
        strength: 0 leaves it alone, 1 gives it its surroundings' mean and spread (in CIELAB).
    """
    mask = layer.mask
    ring = surroundings(mask, max(4, round(0.06 * max(mask.shape))))
    if not mask.any() or not ring.any():
        return layer
    lab = cv2.cvtColor(layer.pixels / 255, cv2.COLOR_RGB2LAB)
    around = cv2.cvtColor(photo.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[ring]
    inside = lab[mask]
    mean, spread = inside.mean(axis=0), inside.std(axis=0) + 1
    gain = np.clip((around.std(axis=0) + 1) / spread, 0.7, 1.2) ** strength
    # Hue follows the light less than brightness does: a red bus stays red in a green meadow.
    shift = strength * np.array([0.7, 0.35, 0.35], np.float32) * (around.mean(axis=0) - mean)
    lab = (lab - mean) * gain.astype(np.float32) + mean + shift
    lab[..., 0] = np.clip(lab[..., 0], 0, 100)
    if np.abs(around[:, 1:]).mean() < _GREY:  # nobody pastes colour into a black-and-white photo
        lab[..., 1:] = around[:, 1:].mean(axis=0)
    pixels = cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_LAB2RGB) * 255
    return Layer(np.clip(pixels, 0, 255), layer.alpha)


def noise_level(photo: np.ndarray, where: np.ndarray | None = None) -> float:
    """Standard deviation of a photo's noise (Immerkaer 1996, from its flattest fifth).

    Args:
        photo: (H, W, 3) in 0..255.
        where: bool (H, W), the pixels to look at; all of them where None.
    """
    grey = cv2.cvtColor(photo.astype(np.float32), cv2.COLOR_RGB2GRAY)
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    response = np.abs(cv2.filter2D(grey, cv2.CV_32F, kernel))
    chosen = response if where is None else response[where]
    # A low quantile, because texture answers the same filter: grass is no noise.
    return float(np.quantile(chosen, 0.2)) / (6 * 0.2533) if chosen.size else 0.0


def with_noise_of(photo: np.ndarray, layer: Layer, rng: np.random.Generator) -> Layer:
    """Add the noise that the photo has and the object lacks."""
    missing = noise_level(photo) ** 2 - noise_level(layer.pixels, layer.mask) ** 2
    if missing <= 0:
        return layer
    noise = rng.normal(0, np.sqrt(missing), layer.pixels.shape).astype(np.float32)
    return Layer(np.clip(layer.pixels + noise, 0, 255), layer.alpha)


def softened(layer: Layer, sigma: float) -> Layer:
    """Blur the object's pixels slightly, as a photo's optics would have."""
    if sigma < 0.2:
        return layer
    # Only the object's own colours may mix, or its edge would turn towards black.
    alpha = layer.alpha[..., None]
    weight = cv2.GaussianBlur(layer.alpha, (0, 0), sigma)[..., None]
    blurred = cv2.GaussianBlur(layer.pixels * alpha, (0, 0), sigma) / np.maximum(weight, 1e-3)
    return Layer(np.clip(blurred, 0, 255).astype(np.float32), layer.alpha)
