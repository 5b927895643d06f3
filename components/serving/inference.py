"""Photos through the model as a stream, shared by `iml predict`, `iml score` and `iml serve`.

Also here: which photos the student can judge at all - scoring and serving abstain from the others,
prediction answers and adds the reason - and how long one answer takes on this machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from components.core import images
from components.core.files import sha256_bytes
from components.core.jpeg import jpeg_quality
from components.core.seeds import generator
from components.core.stream import ahead, batches
from components.serving.predictor import Prediction, Predictor

Item = TypeVar("Item")
_SIDE, _WARM_UP, _TIMES = 512, 2, 11


@dataclass(frozen=True)
class Limits:
    """Below these a photo is unsuitable."""

    side: int = 64  # pixels of a photo's shorter side
    quality: int = 30  # of a JPEG, 1..100; traces of an edit do not survive less


class Examined(NamedTuple):
    """A photo that was read."""

    photo: np.ndarray  # uint8 (H, W, 3)
    sha256: str  # of its file
    quality: float | None  # of a JPEG, 1..100
    unsuitable: str | None  # why an answer says little about it


class Scored(NamedTuple, Generic[Item]):
    """A photo uint8 (H, W, 3) with what is known of it, or the error why it cannot be read."""

    item: Item
    error: str | None = None
    photo: np.ndarray | None = None
    sha256: str | None = None
    quality: float | None = None  # of a JPEG, 1..100
    unsuitable: str | None = None  # why an answer says little about this photo
    found: Prediction | None = None  # the answer, if one was requested


def unsuitable(photo: np.ndarray, quality: float | None, limits: Limits) -> str | None:
    """Why a photo, uint8 (H, W, 3), is unsuitable, in a few words; None for a suitable one.

    `quality` is that of its JPEG file (`components.core.jpeg`), None for other files.
    """
    height, width = photo.shape[:2]
    if min(height, width) < limits.side:
        return f"too small ({width}x{height})"
    # Row by row: the first row already distinguishes nearly every photo from a plain one.
    if all((row == photo[0, 0]).all() for row in photo):
        return "featureless (all pixels are equal)"
    if quality is not None and quality < limits.quality:
        return f"recompressed too strongly (JPEG quality about {quality:.0f})"
    return None


def examine(data: bytes, limits: Limits, max_megapixels: float) -> Examined:
    """Decode a photo's file and examine it; raises images.PhotoError."""
    photo = images.decode_photo(data, "photo", max_megapixels)
    quality = jpeg_quality(data)
    return Examined(photo, sha256_bytes(data), quality, unsuitable(photo, quality, limits))


def scored(
    items: Iterable[Item],
    read: Callable[[Item], bytes],
    predictor: Predictor,
    limits: Limits,
    *,
    abstain: bool,
    max_megapixels: float = images.MAX_MEGAPIXELS,
) -> Iterator[Scored[Item]]:
    """Read, decode, examine and predict every item, in order and in batches.

    `read` gives an item's bytes from any thread, or raises `images.PhotoError`. With `abstain`,
    photos below the limits get no answer.

    Raises:
        InputError: the model's answer is unusable.
    """

    def read_and_examine(item: Item) -> Scored[Item]:
        try:
            return Scored(item, None, *examine(read(item), limits, max_megapixels))
        except images.PhotoError as error:
            return Scored(item, error.reason)

    def requested(one: Scored[Item]) -> list[np.ndarray]:
        return [] if one.photo is None or (abstain and one.unsuitable) else [one.photo]

    def pixels(one: Scored[Item]) -> int:
        return sum(photo.size // 3 for photo in requested(one))

    for batch in batches(ahead(items, read_and_examine), pixels):
        answers = iter(predictor.predict([photo for one in batch for photo in requested(one)]))
        for one in batch:
            yield one._replace(found=next(answers)) if requested(one) else one


def milliseconds(predictor: Predictor) -> float:
    """The median time for one photo of 512x512 pixels, after a warm-up."""
    photo = generator(0, "latency").integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)
    taken = []
    for _ in range(_WARM_UP + _TIMES):
        start = time.perf_counter()
        predictor.predict([photo])
        taken.append(time.perf_counter() - start)
    return float(np.median(taken[_WARM_UP:]) * 1000)
