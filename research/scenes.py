"""Scenes that recipes learn from: background, what is pasted, how it is blended, how it is saved.

How everything is drawn is here; pasting and degrading is `components.synthesis`'s.
"""

from __future__ import annotations

import cv2
import numpy as np

from components.synthesis.degrade import blur, noisy, recompress
from components.synthesis.paste import Layer, blend, lifted, premultiplied
from research.shapes import crop_to, draw


def background(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random window of a photo as a scene of 160 to 512 pixels; a fresh array."""
    long = float(np.exp(rng.uniform(np.log(192), np.log(512))))
    width, height = long, long * rng.uniform(0.62, 1.0)
    if rng.random() < 0.4:
        width, height = height, width
    h, w = photo.shape[:2]
    most = min(w / width, h / height)
    zoom = most * rng.uniform(0.4, 1.0) if most > 0.8 else most
    x0 = int(rng.uniform(0, w - width * zoom + 0.5))
    y0 = int(rng.uniform(0, h - height * zoom + 0.5))
    window = photo[y0 : y0 + max(2, int(height * zoom)), x0 : x0 + max(2, int(width * zoom))]
    if rng.random() < 0.5:
        window = window[:, ::-1]
    size = (round(width), round(height))
    scene = _resize(np.ascontiguousarray(window), size)
    return _recolour(scene, rng, 0.5)


def object_layer(cutout: np.ndarray, scene: tuple[int, int], rng: np.random.Generator) -> Layer:
    """A cut-out object, turned, scaled, flipped and recoloured."""
    width, height = _extent(scene, rng)
    picture = cutout[:, ::-1] if rng.random() < 0.5 else cutout
    angle = rng.normal(0, 12) if rng.random() < 0.7 else rng.uniform(-180, 180)
    # Aspect is the object's own, give or take; the extent only says how large.
    scale = max(width, height) / max(picture.shape[:2])
    across, down = scale * np.exp(rng.normal(0, 0.12, 2))
    # Shrinking by area first: a single warp would alias.
    small = _resize(
        premultiplied(picture),
        (max(3, round(picture.shape[1] * across)), max(3, round(picture.shape[0] * down))),
    )
    layer = lifted(_rotate(small, angle))
    return Layer(_recolour(layer.pixels.astype(np.uint8), rng, 0.6), layer.alpha)


def patch_layer(
    shape: str | np.ndarray,
    source: np.ndarray,
    scene: tuple[int, int],
    rng: np.random.Generator,
) -> Layer:
    """A piece of a photo in some outline.

    Args:
        shape: a name of `research.shapes`, or an alpha channel uint8 (h, w).
        source: uint8 (H, W, 3), the photo the piece is taken from.
        scene: height and width of the photo it goes to.
        rng: where chance comes from.
    """
    width, height = _extent(scene, rng)
    if isinstance(shape, str):
        alpha = draw(shape, width, height, rng)
    else:
        shape = shape[:, ::-1] if rng.random() < 0.5 else shape
        scale = max(width, height) / max(shape.shape)
        size = (max(3, round(shape.shape[1] * scale)), max(3, round(shape.shape[0] * scale)))
        soft = _resize(np.ascontiguousarray(shape), size).astype(np.float32) / 255
        alpha = crop_to(np.pad(soft, 1))
    h, w = alpha.shape
    rows, columns = source.shape[:2]
    zoom = min(float(np.exp(rng.normal(0, 0.25))), rows / h, columns / w)
    if rng.random() < 0.4:
        zoom = min(1.0, zoom)  # the same scale: nothing but its place gives a copy away
    tall, wide = max(1, int(h * zoom)), max(1, int(w * zoom))
    y0, x0 = int(rng.integers(rows - tall + 1)), int(rng.integers(columns - wide + 1))
    piece = source[y0 : y0 + tall, x0 : x0 + wide]
    if rng.random() < 0.3:
        piece = piece[:, ::-1]
    colour = _resize(np.ascontiguousarray(piece), (w, h))
    return Layer(_recolour(colour, rng, 0.4), alpha)


def paste(scene: np.ndarray, layer: Layer, rng: np.random.Generator) -> np.ndarray:
    """Blend a layer into the scene in place, at a random spot, mostly wholly inside.

    Returns:
        float32 (H, W), how far the layer covers each pixel.
    """
    height, width = scene.shape[:2]
    h, w = layer.alpha.shape
    slack = 0.25 if rng.random() < 0.2 else 0.0  # over the border now and then
    y0 = int(rng.uniform(-slack * h, max(1, height - h * (1 - slack))))
    x0 = int(rng.uniform(-slack * w, max(1, width - w * (1 - slack))))
    top, left = max(0, y0), max(0, x0)
    bottom, right = min(height, y0 + h), min(width, x0 + w)
    alpha = np.zeros((height, width), np.float32)
    if bottom <= top or right <= left:
        return alpha
    part = (slice(top - y0, bottom - y0), slice(left - x0, right - x0))
    soft = layer.alpha
    if rng.random() < 0.5:
        soft = cv2.GaussianBlur(soft, (0, 0), rng.uniform(0.3, 2.0), borderType=cv2.BORDER_CONSTANT)
    under, over = scene[top:bottom, left:right], layer.pixels[part].astype(np.float32)
    if rng.random() < 0.15:  # matched to its surroundings in brightness
        over += rng.uniform(0.3, 0.9) * (under.mean((0, 1), np.float32) - over.mean((0, 1)))
    scene[top:bottom, left:right] = blend(under, Layer(over, soft[part]))
    alpha[top:bottom, left:right] = soft[part]
    return alpha


def degrade(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What happens to a photo afterwards: rescaling's blur, noise, JPEG."""
    photo = np.ascontiguousarray(photo)
    if rng.random() < 0.15:
        photo = blur(photo, rng.uniform(0.4, 1.0))
    if rng.random() < 0.15:
        # Half a level down: sums were cut off, not rounded, when the shipped weights were made.
        photo = noisy(photo, rng.normal(0, rng.uniform(1, 6), photo.shape) - 0.5)
    if rng.random() < 0.75:
        photo = recompress(photo, int(rng.integers(55, 99)))
    return photo


def _extent(scene: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
    """Width and height of what is pasted: small ones as often as large ones."""
    short = min(scene)
    side = float(np.exp(rng.uniform(np.log(28), np.log(0.95 * short))))
    aspect = float(np.exp(rng.normal(0, 0.4)))
    width, height = side * min(1, aspect), side * min(1, 1 / aspect)
    return max(10, round(width)), max(10, round(height))


def _resize(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    shrinks = size[0] < picture.shape[1]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _rotate(picture: np.ndarray, angle: float) -> np.ndarray:
    h, w = picture.shape[:2]
    turn = cv2.getRotationMatrix2D((w / 2, h / 2), angle, 1.0)
    cos, sin = abs(turn[0, 0]), abs(turn[0, 1])
    wide, tall = int(h * sin + w * cos) + 2, int(h * cos + w * sin) + 2
    turn[:, 2] += (wide / 2 - w / 2, tall / 2 - h / 2)
    return cv2.warpAffine(picture, turn, (wide, tall), flags=cv2.INTER_LINEAR)


def _recolour(picture: np.ndarray, rng: np.random.Generator, chance: float) -> np.ndarray:
    """Brightness, contrast, saturation and colour balance."""
    if rng.random() >= chance:
        return picture
    values = picture.astype(np.float32)
    grey = values.mean(axis=2, keepdims=True)
    values = grey + (values - grey) * rng.uniform(0.5, 1.4)
    gain = np.exp(rng.normal(0, 0.15) + rng.normal(0, 0.05, 3)).astype(np.float32)
    values = (values - 128) * gain + 128 + rng.normal(0, 12)
    return np.clip(values, 0, 255).astype(np.uint8)
