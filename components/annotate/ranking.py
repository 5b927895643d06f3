"""What to draw next: photos in the order in which a person's time is best spent on them.

- `gain`: photos that the student is unsure about and that differ from those before them (see
  `components.annotate.gain`);
- `random`: to compare with; no photo is read;
- `score`: the most suspicious first, for triage;
- `doubt`: of a labelled data set, the photos whose label is most likely wrong (see
  `components.annotate.doubt`).

The same photos, model and seed give the same order. Photos that cannot be judged come last, with
the reason: first those that the student cannot judge, then those that cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from components.annotate import gain
from components.core.errors import InputError
from components.core.progress import Progress
from components.core.seeds import generator
from components.serving.inference import Limits, scored
from components.serving.predictor import Prediction, Predictor
from components.serving.sources import Item, Source

Measured = TypeVar("Measured")
ORDERS = ("gain", "random", "score", "doubt")


class Candidate(NamedTuple):
    """A photo to rank."""

    name: str  # unique; its path below the source, of a data set below its `photos/`
    read: Callable[[], bytes]  # from any thread; raises `images.PhotoError`


@dataclass(frozen=True)
class Ranked:
    """A photo in an order; the order is that of a list of these."""

    name: str
    value: float  # what the order goes by, the highest first; 0 for photos that are not judged
    reason: str  # for people


def candidates(source: Source) -> list[Candidate]:
    """The photos of a source; raises InputError where they cannot be listed."""

    def one(item: Item) -> Candidate:
        return Candidate(item.name, lambda: source.read(item))

    return [one(item) for item in source.items()]


def rank(
    photos: Sequence[Candidate],
    order: str,
    predictor: Predictor | None,
    seed: int,
    progress: Progress | None = None,
    dataset: Path | None = None,
) -> list[Ranked]:
    """The photos in an order, each once.

    Args:
        photos: in any order.
        order: one of `ORDERS`.
        predictor: the student; `gain` and `score` need one.
        seed: of `random`; `doubt` has its seed from params.yaml.
        progress: called with (photos done, photos in all).
        dataset: the folder of the labelled data set that the photos belong to, for `doubt`.

    Raises:
        InputError: an unknown order, or one that lacks what it needs; an unusable model.
    """
    if order not in ORDERS:
        raise InputError(f"unknown order {order!r}", hint=f"one of {', '.join(ORDERS)}")
    photos = sorted(photos, key=lambda photo: photo.name)
    if order == "random":
        return _at_random(photos, seed)
    if order == "doubt":
        raise InputError("the order 'doubt' needs a labelled data set")
    if predictor is None:
        raise InputError(f"the order {order!r} needs a model")
    return (_by_gain if order == "gain" else _by_score)(photos, predictor, progress)


def _at_random(photos: Sequence[Candidate], seed: int) -> list[Ranked]:
    names = [photo.name for photo in photos]
    order = generator(seed, "annotate").permutation(len(names))
    return [
        Ranked(names[row], 1 - place / len(names), "drawn at random")
        for place, row in enumerate(order)
    ]


def _by_gain(
    photos: Sequence[Candidate], predictor: Predictor, progress: Progress | None
) -> list[Ranked]:
    def measure(name: str, photo: np.ndarray, found: Prediction) -> gain.Seen:
        return gain.seen(name, photo, found.probability)

    seen, others = _judged(photos, predictor, progress, measure)
    return [Ranked(row.name, row.value, row.reason) for row in gain.by_gain(seen)] + others


def _by_score(
    photos: Sequence[Candidate], predictor: Predictor, progress: Progress | None
) -> list[Ranked]:
    def measure(name: str, _: np.ndarray, found: Prediction) -> Ranked:
        return Ranked(name, found.score, f"{found.area:.1%} of it looks manipulated")

    ranked, others = _judged(photos, predictor, progress, measure)
    return sorted(ranked, key=lambda row: -row.value) + others


def _judged(
    photos: Sequence[Candidate],
    predictor: Predictor,
    progress: Progress | None,
    measure: Callable[[str, np.ndarray, Prediction], Measured],
) -> tuple[list[Measured], list[Ranked]]:
    """What is measured on each photo that has an answer, and the others in their order."""
    measured, unsuitable, failed = [], [], []
    answers = scored(photos, lambda photo: photo.read(), predictor, Limits(), abstain=True)
    for done, one in enumerate(answers, 1):
        name = one.item.name
        if one.photo is None:
            failed.append(Ranked(name, 0.0, one.error or ""))
        elif one.found is None:
            unsuitable.append(Ranked(name, 0.0, one.unsuitable or ""))
        else:
            measured.append(measure(name, one.photo, one.found))
        if progress:
            progress(done, len(photos))
    return measured, unsuitable + failed
