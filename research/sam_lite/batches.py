"""Pairs as batches of crops, made in the background while the network learns."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from torch import Tensor

from components.core.seeds import generator
from components.core.stream import ahead
from components.pseudo_label.teachers.sam_lite.model import cut
from research.sam_lite import pairs
from research.sam_lite.sources import Sources

_CONTEXT = 1.75  # in the mean: pairs show more round the box than will be asked with

Example = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def example(pair: pairs.Pair, size: int, context: float) -> Example:
    """One pair as the network meets it.

    Returns:
        Crop uint8 (S, S, 3), box float32 (4,), soft mask and validity float32 (S/2, S/2).
    """
    crop = cut(pair.photo, pair.box, size, context)
    x0, y0, x1, y1 = crop.window
    height, width = crop.inner
    mask = np.zeros((size, size), np.float32)
    part = np.ascontiguousarray(pair.mask[y0:y1, x0:x1], np.float32)
    how = cv2.INTER_AREA if width < x1 - x0 else cv2.INTER_LINEAR
    mask[:height, :width] = cv2.resize(part, (width, height), interpolation=how)
    valid = np.zeros((size, size), np.float32)
    valid[:height, :width] = 1
    half = (size // 2, size // 2)
    return (
        crop.pixels,
        crop.box,
        cv2.resize(mask, half, interpolation=cv2.INTER_AREA),
        cv2.resize(valid, half, interpolation=cv2.INTER_AREA),
    )


def stream(
    sources: Sources,
    shares: dict[str, float],
    seed: int,
    batch: int,
    sizes: list[int],
    start: int,
    workers: int,
) -> Iterator[list[Tensor]]:
    """Batches from step `start` on, one for each of `sizes`; the same whatever `workers` is.

    Threads, not processes: OpenCV and NumPy let go of the interpreter where it matters, and the
    sources are not copied.

    Yields:
        Crops uint8 (B, S, S, 3), boxes (B, 4), masks and validities (B, S/2, S/2).
    """
    cv2.setNumThreads(1)

    def made(step: int) -> list[Tensor]:
        numbers = range(step * batch, (step + 1) * batch)
        examples = [_numbered(sources, shares, seed, number, sizes[step]) for number in numbers]
        return [torch.from_numpy(np.stack(part)) for part in zip(*examples, strict=True)]

    return ahead(range(start, len(sizes)), made, workers)


def _numbered(
    sources: Sources, shares: dict[str, float], seed: int, number: int, size: int
) -> Example:
    context = generator(seed, "context", number).uniform(0.85, 1.2) * _CONTEXT
    return example(pairs.make(sources, shares, seed, number), size, context)
