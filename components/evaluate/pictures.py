"""Drawing a prediction over its photo so that both stay visible, and small copies for pages.

Colours are of the Okabe-Ito set, told apart by people with any common colour blindness; regions
are outlined rather than painted over, each outline with a dark rim to show on any photo.
"""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
from PIL import Image

from components.core.metrics import THRESHOLD

PREDICTED = (213, 94, 0)  # vermilion
BOX = (86, 180, 233)  # sky blue
_RIM = (0, 0, 0)
_TINT = 0.25


def _width(shape: tuple[int, ...]) -> int:
    """Line width in pixels that looks alike on small and large photos."""
    return max(1, round(max(shape[:2]) / 250))


def overlay(
    photo: np.ndarray,
    probability: np.ndarray,
    threshold: float = THRESHOLD,
    boxes: np.ndarray | None = None,
) -> np.ndarray:
    """The photo with the predicted region tinted and outlined, and boxes if given.

    Args:
        photo: uint8 (H, W, 3), RGB.
        probability: float32 (H, W), in 0..1.
        threshold: the region is where the probability is strictly above.
        boxes: float (N, 4), x0 y0 x1 y1 in pixels, half-open.

    Returns:
        uint8 (H, W, 3), RGB; the photo unchanged where nothing is predicted.
    """
    if probability.shape != photo.shape[:2]:
        raise ValueError(f"probability {probability.shape} over a photo {photo.shape[:2]}")
    drawn = np.array(photo)
    region = probability > threshold
    tint = np.array(PREDICTED, dtype=np.float32) * _TINT
    drawn[region] = np.rint(drawn[region] * (1 - _TINT) + tint).astype(np.uint8)
    _outline(drawn, region, PREDICTED)
    for x0, y0, x1, y1 in [] if boxes is None else np.asarray(boxes, dtype=np.float64):
        inside = np.zeros_like(region)
        inside[max(0, round(y0)) : round(y1), max(0, round(x0)) : round(x1)] = True
        _outline(drawn, inside, BOX)
    return drawn


def _outline(picture: np.ndarray, region: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Draw a line along the inner border of a region, bool (H, W), in place."""
    rows, columns = (np.flatnonzero(region.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return
    width = _width(picture.shape)
    part = tuple(slice(max(0, at[0] - width), at[-1] + width + 1) for at in (rows, columns))
    edge = _edge(region[part])
    picture[part][_widened(edge, width)] = _RIM
    picture[part][_widened(edge, 2 * width // 3)] = colour


def _edge(region: np.ndarray) -> np.ndarray:
    """The outermost pixels of a region, bool (H, W); those at the picture's border too."""
    around = np.pad(region, 1)
    inner = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    return region & ~inner


def _widened(mask: np.ndarray, reach: int) -> np.ndarray:
    """All pixels that are at most `reach` rows and columns away from one of the mask's."""
    wide = mask.copy()
    for lines in (wide, wide.T):
        done = 0
        while done < reach:
            step = min(reach - done, 2 * done + 1)
            lines[step:] |= lines[:-step]
            lines[:-step] |= lines[step:]
            done += step
    return wide


def thumbnail(image: np.ndarray, side: int) -> np.ndarray:
    """Shrink uint8 (H, W) or (H, W, 3) to fit a square of `side` pixels; never enlarges."""
    height, width = image.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    # Every pixel counts for one of the small copy, so the smallest region leaves a trace.
    box = Image.Resampling.BOX
    return np.asarray(Image.fromarray(image).resize(size, box)) if scale < 1 else image


def marked(photo: np.ndarray, probability: np.ndarray, side: int) -> np.ndarray:
    """A small copy of a photo with what is predicted; a region stays, however small it is.

    Args:
        photo: uint8 (H, W, 3), RGB.
        probability: float32 (H, W), in 0..1.
        side: the copy's longer side, pixels, at most.
    """
    predicted = thumbnail((probability > THRESHOLD).astype(np.float32), side) > 0
    return overlay(thumbnail(photo, side), predicted.astype(np.float32))


def data_uri(image: np.ndarray, quality: int = 80) -> str:
    """A picture inside a page: uint8 (H, W) as PNG, (H, W, 3) as JPEG, base64 in a data URI."""
    kind = "png" if image.ndim == 2 else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(encoded(image, quality)).decode()}"


def encoded(image: np.ndarray, quality: int) -> bytes:
    """A picture's file: uint8 (H, W) as PNG, (H, W, 3) as JPEG of this quality, 1..100."""
    buffer = BytesIO()
    kind = "PNG" if image.ndim == 2 else "JPEG"
    Image.fromarray(image).save(buffer, format=kind, quality=quality)
    return buffer.getvalue()
