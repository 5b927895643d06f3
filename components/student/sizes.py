"""Photos and maps at other sizes without torch, as `torch.nn.functional.interpolate` makes them.

Bilinear, antialiased. Photos come out byte for byte as torch's 8-bit kernel makes them: weights
rounded to 16-bit integers, columns first, each pass rounded to 8 bits. Sums of integers are exact
in float64, so the matrix products below give the same bytes on every processor.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

_ROWS, _COLUMNS = 128, 16  # pixels of a block: input rows, output columns; bounds memory


class _Band(NamedTuple):
    """Neighbouring outputs and the inputs that they depend on."""

    outputs: slice
    inputs: slice
    weights: np.ndarray  # float64 (inputs, outputs), whole numbers


def shrink(image: np.ndarray, size: int) -> np.ndarray:
    """Resize uint8 (H, W, C) to the square (size, size, C)."""
    height, planes = image.shape[0], []
    for plane in cv2.split(image):
        blocks = [_along(plane[start : start + _ROWS], size) for start in range(0, height, _ROWS)]
        planes.append(_along(np.concatenate(blocks).T, size).T)
    return np.ascontiguousarray(np.stack(planes, axis=2))


def enlarge(probability: np.ndarray, height: int, width: int) -> np.ndarray:
    """A map float32 (S, S) at a photo's own size: float32 (height, width) in [0, 1]."""
    size = probability.shape[0]
    if min(height, width) >= size:
        native = cv2.resize(probability, (width, height), interpolation=cv2.INTER_LINEAR)
    else:
        rows, columns = _weights(size, height), _weights(size, width)
        native = (rows @ probability.astype(np.float64) @ columns.T).astype(np.float32)
    return np.clip(native, 0, 1, out=native)


def _along(rows: np.ndarray, wanted: int) -> np.ndarray:
    """Rows of pixels, uint8 (N, length), resized: uint8 (N, wanted)."""
    if rows.shape[1] == wanted:
        return rows
    bands, precision = _bands(rows.shape[1], wanted)
    pixels = rows.astype(np.float64)
    sums = np.empty((len(rows), wanted))
    for band in bands:
        np.matmul(pixels[:, band.inputs], band.weights, out=sums[:, band.outputs])
    half = 1 << (precision - 1)
    return np.clip((sums.astype(np.int64) + half) >> precision, 0, 255).astype(np.uint8)


def _weights(length: int, wanted: int) -> np.ndarray:
    """Share of each input in each output: float64 (wanted, length), rows sum to 1."""
    scale = length / wanted
    support = max(scale, 1.0)
    centre = scale * (np.arange(wanted)[:, None] + 0.5)
    place = np.arange(length)
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + support + 0.5).astype(np.int64), length)
    weights = np.maximum(0, 1 - np.abs(place - centre + 0.5) / support)
    weights *= (place >= first) & (place < last)
    return weights / weights.sum(axis=1, keepdims=True)


@lru_cache(maxsize=32)
def _bands(length: int, wanted: int) -> tuple[list[_Band], int]:
    """The integer weights by bands, and how many bits they were scaled by."""
    weights = _weights(length, wanted)
    # As many bits as keep the largest weight a 16-bit integer.
    precision = 0
    while precision < 22 and int(0.5 + weights.max() * 2 ** (precision + 1)) < 1 << 15:
        precision += 1
    whole = np.floor(0.5 + weights * 2**precision)
    bands = []
    for start in range(0, wanted, _COLUMNS):
        part = whole[start : start + _COLUMNS]
        used = np.flatnonzero(part.any(axis=0))
        inputs = slice(int(used[0]), int(used[-1]) + 1)
        outputs = slice(start, start + len(part))
        bands.append(_Band(outputs, inputs, np.ascontiguousarray(part[:, inputs].T)))
    return bands, precision
