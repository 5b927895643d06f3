"""Items: making one photo of a data set - base, composition, post-processing, files, boxes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from components.core.errors import InputError
from components.core.files import write_bytes
from components.core.images import save_grey
from components.core.seeds import generator
from components.data import dataset
from components.data.boxes import loosen
from components.data.manifest import AUTHENTIC
from components.synthesis import compose
from components.synthesis.paste import bounds
from components.synthesis.postprocess import published, recorded
from components.synthesis.sources import Group, open_base, open_cutout

_SECOND_OBJECT = 0.12  # of the splices
_FROM_OTHER_PHOTO = 0.2  # of the splices: the object is cut from the group's other photo
_TRIES = 6


@dataclass(frozen=True)
class Item:
    """One photo to make; everything it needs, so that any process can make it."""

    index: int
    label: str
    kind: str | None
    base: Path
    group: Group
    size: tuple[int, int]
    seed: int
    jitter: float
    out: Path


@dataclass(frozen=True)
class Made:
    """One photo as made: its COCO image and boxes [x, y, width, height]."""

    image: dict[str, Any]
    boxes: list[list[float]]


def make(item: Item) -> Made:
    """Make one photo and write it (with its mask) into the data set's folder."""
    cv2.setNumThreads(1)  # the processes are the parallelism; threads also change float sums
    rng = generator(item.seed, "item", item.label, item.index)
    photo = recorded(open_base(item.base, item.size, rng), rng)
    result = None if item.kind is None else _compose(item, photo, rng)
    kind, composition = result if result else (None, None)
    final = photo if composition is None else composition.photo
    name = f"{item.index:05d}-{kind or AUTHENTIC}-{item.base.stem}"
    finishing = generator(item.seed, "publish", item.label, item.index)
    write_bytes(item.out / dataset.PHOTOS / f"{name}.jpg", published(final, finishing))
    height, width = photo.shape[:2]
    image: dict[str, Any] = {
        "id": item.index + 1,
        "file_name": f"{name}.jpg",
        "width": width,
        "height": height,
        "label": item.label,
        "group": item.group.name,
        "source": item.base.stem,
    }
    if composition is None or kind is None:
        return Made(image, [])
    mask = f"{dataset.MASKS}/{name}.png"
    save_grey(item.out / mask, composition.mask.astype(np.uint8) * 255)
    tight = np.array([bounds(region) for region in composition.masks], np.float64)
    loose = loosen(tight, width, height, item.jitter, item.seed, image["file_name"])
    return Made({**image, "kind": kind, "mask": mask}, [_coco(box) for box in loose])


def _compose(
    item: Item, photo: np.ndarray, rng: np.random.Generator
) -> tuple[str, compose.Composition]:
    """Try the kind that was asked for, then a splice, which always fits in the end."""
    for _ in range(_TRIES):
        if item.kind == compose.COPY_MOVE:
            made = compose.copy_move(photo, rng)
        elif item.kind == compose.REMOVAL:
            made = compose.removal(photo, rng)
        else:
            made = compose.splice(photo, _objects(item, rng), rng)
        if made is not None:
            return str(item.kind), made
    for path in item.group.cutouts:
        for _ in range(_TRIES):
            made = compose.splice(photo, [open_cutout(path)], rng)
            if made is not None:
                return compose.SPLICE, made
    raise InputError(
        "no cut-out fits into this photo", where=str(item.base), hint="add larger cut-outs"
    )


def _objects(item: Item, rng: np.random.Generator) -> list[np.ndarray]:
    """What a splice pastes: one or two cut-outs, or an object of the group's other photo."""
    others = [path for path in item.group.photos if path != item.base]
    if others and rng.random() < _FROM_OTHER_PHOTO:
        donor = open_base(others[int(rng.integers(len(others)))], item.size, rng)
        found = compose.cut_object(recorded(donor, rng), rng)
        if found is not None:
            return [found]
    count = 2 if rng.random() < _SECOND_OBJECT else 1
    chosen = rng.integers(len(item.group.cutouts), size=count)
    return [open_cutout(item.group.cutouts[int(index)]) for index in chosen]


def _coco(box: np.ndarray) -> list[float]:
    """`x0, y0, x1, y1` as [x, y, width, height], rounded outwards to hundredths of a pixel."""
    x0, y0 = (np.floor(box[:2] * 100) / 100).tolist()
    x1, y1 = (np.ceil(box[2:] * 100) / 100).tolist()
    return [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)]
