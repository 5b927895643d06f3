"""Photos and maps at other sizes without torch, as `torch.nn.functional.interpolate` makes them.

Bilinear, antialiased. Photos come out byte for byte as torch's 8-bit kernel makes them: weights
rounded to 16-bit integers, columns first, each pass rounded to 8 bits. Sums of integers are exact
in float64, so the matrix products below give the same bytes on every processor.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

_ROWS, _COLUMNS = 128, 16  # pixels of a block: input rows, output columns; bounds memory


class _Band(NamedTuple):
    """Neighbouring outputs and the inputs that they depend on."""

    outputs: slice
    inputs: slice
    weights: np.ndarray  # float64 (inputs, outputs)


def shrink(image: np.ndarray, size: int) -> np.ndarray:
    """Resize uint8 (H, W, C) to the square (size, size, C)."""
    height, planes = image.shape[0], []
    for channel in range(image.shape[2]):
        plane = image[..., channel]
        blocks = [_along(plane[start : start + _ROWS], size) for start in range(0, height, _ROWS)]
        planes.append(_along(np.concatenate(blocks).T, size).T)
    return np.ascontiguousarray(np.stack(planes, axis=2))


def enlarge(probability: np.ndarray, height: int, width: int) -> np.ndarray:
    """A map float32 (S, S) at a photo's own size: float32 (height, width) in [0, 1]."""
    size = probability.shape[0]
    wide, native = np.empty((size, width), np.float32), np.empty((height, width), np.float32)
    for band in _bands(size, width):
        weights = band.weights.astype(np.float32)
        np.matmul(probability[:, band.inputs], weights, out=wide[:, band.outputs])
    for band in _bands(size, height):
        weights = band.weights.astype(np.float32)
        np.matmul(weights.T, wide[band.inputs], out=native[band.outputs])
    return np.clip(native, 0, 1, out=native)


def _along(rows: np.ndarray, wanted: int) -> np.ndarray:
    """Rows of pixels, uint8 (N, length), resized: uint8 (N, wanted)."""
    if rows.shape[1] == wanted:
        return rows
    bands, precision = _whole_bands(rows.shape[1], wanted)
    pixels = rows.astype(np.float64)
    sums = np.empty((len(rows), wanted))
    for band in bands:
        np.matmul(pixels[:, band.inputs], band.weights, out=sums[:, band.outputs])
    half = 1 << (precision - 1)
    return np.clip((sums.astype(np.int64) + half) >> precision, 0, 255).astype(np.uint8)


@lru_cache(maxsize=32)
def _bands(length: int, wanted: int) -> list[_Band]:
    """The share of each input in each output."""
    scale = length / wanted
    support = max(scale, 1.0)
    bands = []
    for start in range(0, wanted, _COLUMNS):
        outputs = slice(start, min(start + _COLUMNS, wanted))
        centre = scale * (np.arange(outputs.start, outputs.stop) + 0.5)
        first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
        last = np.minimum((centre + support + 0.5).astype(np.int64), length)
        inputs = slice(int(first[0]), int(last[-1]))
        place = np.arange(inputs.start, inputs.stop)[:, None]
        weights = np.maximum(0, 1 - np.abs(place - centre + 0.5) / support)
        weights *= (place >= first) & (place < last)
        bands.append(_Band(outputs, inputs, weights / weights.sum(axis=0)))
    return bands


@lru_cache(maxsize=32)
def _whole_bands(length: int, wanted: int) -> tuple[list[_Band], int]:
    """As `_bands`, in whole numbers, and how many bits they were scaled by."""
    bands = _bands(length, wanted)
    largest = max(band.weights.max() for band in bands)
    # As many bits as keep the largest weight a 16-bit integer.
    precision = 0
    while precision < 22 and int(0.5 + largest * 2 ** (precision + 1)) < 1 << 15:
        precision += 1
    whole = (np.floor(0.5 + band.weights * 2**precision) for band in bands)
    return [band._replace(weights=w) for band, w in zip(bands, whole, strict=True)], precision
