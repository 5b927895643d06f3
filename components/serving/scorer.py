"""Photos through the model as a stream: what `iml predict` and `iml score` do alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from components.core import images
from components.core.files import sha256_bytes
from components.core.jpeg import jpeg_quality
from components.core.stream import ahead, batches
from components.serving.predictor import Prediction, Predictor
from components.serving.suitability import Limits, unsuitable

Item = TypeVar("Item")


class Scored(NamedTuple, Generic[Item]):
    """A photo uint8 (H, W, 3) with what is known of it, or the error why it cannot be read."""

    item: Item
    error: str | None = None
    photo: np.ndarray | None = None
    sha256: str | None = None
    quality: float | None = None  # of a JPEG, 1..100
    unsuitable: str | None = None  # why an answer says little of this photo
    found: Prediction | None = None  # the answer, where one was asked for


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

    Args:
        items: photos to find.
        read: a photo's bytes, from any thread; raises `images.PhotoError`.
        predictor: the model.
        limits: of a suitable photo.
        abstain: whether unsuitable photos get no answer.
        max_megapixels: larger photos are refused.

    Raises:
        InputError: the model's answer is unusable.
    """

    def look(item: Item) -> Scored[Item]:
        try:
            data = read(item)
            photo = images.decode_photo(data, "photo", max_megapixels)
        except images.PhotoError as error:
            return Scored(item, error.reason)
        quality = jpeg_quality(data)
        reason = unsuitable(photo, quality, limits)
        return Scored(item, None, photo, sha256_bytes(data), quality, reason)

    def asked(one: Scored[Item]) -> list[np.ndarray]:
        return [] if one.photo is None or (abstain and one.unsuitable) else [one.photo]

    for batch in batches(ahead(items, look), lambda one: sum(p.size // 3 for p in asked(one))):
        answers = iter(predictor.predict([photo for one in batch for photo in asked(one)]))
        for one in batch:
            yield one._replace(found=next(answers)) if asked(one) else one
