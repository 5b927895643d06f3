"""Synthesize: a whole data set folder of manipulated and authentic photos, from a seed.

Every photo goes the same way: a crop of a source photo, JPEG as its camera saved it, perhaps a
manipulation, and JPEG as it was passed on. All but the manipulation is drawn from one distribution
for both labels: JPEG tables, resampling and noise are no shortcut for a detector.

Usage:
    synthesize(Path("data/demo"), photos, cutouts, manipulated=200, authentic=100, seed=7,
               jitter=0.10, licence="see ATTRIBUTION.md", source="bundled photos and cut-outs")
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from components.core.errors import InputError
from components.core.files import write_bytes
from components.core.images import decode_photo, save_grey
from components.core.progress import Progress
from components.core.seeds import generator
from components.data import dataset
from components.data.boxes import loosen
from components.data.manifest import AUTHENTIC, MANIPULATED
from components.synthesis import compose
from components.synthesis.degrade import noisy
from components.synthesis.paste import bounds
from components.synthesis.sources import Group, deal, open_base, open_cutout

SIZE = (384, 256)
_KINDS = (compose.SPLICE, compose.COPY_MOVE, compose.REMOVAL)
_KIND_SHARES = (0.5, 0.3, 0.2)
_SECOND_OBJECT = 0.12  # of the splices
_FROM_OTHER_PHOTO = 0.2  # of the splices: the object is cut from the group's other photo
_TRIES = 6


@dataclass(frozen=True)
class _Item:
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


def synthesize(
    out: Path,
    photos: Sequence[Path],
    cutouts: Sequence[Path],
    manipulated: int,
    authentic: int,
    seed: int,
    jitter: float,
    licence: str,
    source: str,
    size: tuple[int, int] = SIZE,
    progress: Progress | None = None,
    workers: int | None = None,
) -> None:
    """Write a data set: photos, exact masks, loosened boxes, source groups.

    The same arguments give the same bytes on the same processor, whatever the number of workers
    (another processor rounds float arithmetic and JPEGs differently). The folder appears
    whole or not at all.

    Args:
        out: the data set's folder; must not exist or be empty. Its name is the data set's.
        photos: authentic photos; each becomes the base of manipulated and authentic ones.
        cutouts: pictures of objects with an alpha channel.
        manipulated: how many manipulated photos.
        authentic: how many authentic photos.
        seed: decides everything that is drawn.
        jitter: largest share of its width or height by which a box's side is loosened.
        licence: of the data set, for its card.
        source: of the data set, for its card.
        size: (longer, shorter) side of the photos, in pixels.
        progress: called as progress(done, total).
        workers: processes; all cores where None.

    Raises:
        InputError: nothing to compose from, unusable sources, a folder that holds something.
    """
    _check(out, manipulated, authentic, jitter, size)
    groups = deal(photos, cutouts, seed)
    for path in cutouts:
        open_cutout(path)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        items = [
            _Item(
                index, MANIPULATED if kind else AUTHENTIC, kind, *place, size, seed, jitter, partial
            )
            for index, (kind, place) in enumerate(_plan(groups, manipulated, authentic, seed))
        ]
        images, annotations = list[dict[str, Any]](), list[dict[str, Any]]()
        for image, boxes in _make_all(items, workers):
            images.append(image)
            for box in boxes:
                annotations.append(_annotation(len(annotations) + 1, image["id"], box))
            if progress is not None:
                progress(len(images), len(items))
        dataset.save(
            dataset.Dataset(
                root=partial,
                name=out.name,
                licence=licence,
                source=source,
                boxes="given",
                split="grouped",
                images=images,
                annotations=annotations,
                description="Manipulated photos composed from authentic ones, with exact masks",
            )
        )
        partial.replace(out)  # onto nothing, or onto an empty folder
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check(
    out: Path, manipulated: int, authentic: int, jitter: float, size: tuple[int, int]
) -> None:
    """Refuse what cannot work, before any work is done."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            "already exists and is not empty",
            where=str(out),
            hint="choose another name or remove it",
        )
    if min(manipulated, authentic) < 0 or manipulated + authentic < 1:
        raise InputError(f"{manipulated} manipulated and {authentic} authentic photos asked for")
    if not 0 <= jitter <= 0.5:
        raise InputError(f"jitter {jitter} is not in 0..0.5")
    if not 32 <= size[1] <= size[0] <= 8192:
        raise InputError(f"size {size[0]}x{size[1]}: the longer side first, 32 to 8192 pixels")


def _plan(
    groups: list[Group], manipulated: int, authentic: int, seed: int
) -> Iterator[tuple[str | None, tuple[Path, Group]]]:
    """Kind, base and group of each photo: both labels go through the same bases in one order."""
    depth = max(len(group.photos) for group in groups)
    bases = [(g.photos[i], g) for i in range(depth) for g in groups if i < len(g.photos)]
    edges = np.round(np.cumsum(_KIND_SHARES) * manipulated).astype(int)
    for place, index in enumerate(generator(seed, "kinds").permutation(manipulated)):
        kind = _KINDS[int(np.searchsorted(edges, index, side="right"))]
        yield kind, bases[place % len(bases)]
    for place in range(authentic):
        yield None, bases[place % len(bases)]


def _make_all(
    items: list[_Item], workers: int | None
) -> Iterator[tuple[dict[str, Any], list[list[float]]]]:
    """Make all items in their order, in as many processes as there are cores."""
    workers = min(len(items), workers or os.cpu_count() or 1)
    if workers == 1:
        yield from map(_make, items)
        return
    context = multiprocessing.get_context("spawn")  # the caller may have threads
    # On Ctrl-C a terminal interrupts every process; the parent ends the others itself.
    deaf = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=deaf) as pool:
        try:
            yield from pool.map(_make, items, chunksize=4)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _make(item: _Item) -> tuple[dict[str, Any], list[list[float]]]:
    """Write one photo and its mask; its COCO image and boxes [x, y, width, height]."""
    cv2.setNumThreads(1)  # the processes are the parallelism; threads also change float sums
    rng = generator(item.seed, "item", item.label, item.index)
    photo = recorded(open_base(item.base, item.size, rng), rng)
    result = None if item.kind is None else _compose(item, photo, rng)
    kind, final = (result[0], result[1].photo) if result else (AUTHENTIC, photo)
    name = f"{item.index:05d}-{kind}-{item.base.stem}"
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
    if result is None:
        return image, []
    mask, composition = f"{dataset.MASKS}/{name}.png", result[1]
    save_grey(item.out / mask, composition.mask.astype(np.uint8) * 255)
    tight = np.array([bounds(region) for region in composition.masks], np.float64)
    loose = loosen(tight, width, height, item.jitter, item.seed, image["file_name"])
    return {**image, "kind": kind, "mask": mask}, [_coco(box) for box in loose]


def _compose(
    item: _Item, photo: np.ndarray, rng: np.random.Generator
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


def _objects(item: _Item, rng: np.random.Generator) -> list[np.ndarray]:
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


def recorded(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A photo as its camera saved it, before anybody edits it: JPEG at quality 85-96."""
    return decode_photo(encode(photo, int(rng.integers(85, 97))), "photo")


def published(photo: np.ndarray, rng: np.random.Generator) -> bytes:
    """A photo uint8 (H, W, 3) as it is passed on, its size kept, as JPEG of quality 70-95.

    One in four is resampled before, and one in four is noisy.
    """
    height, width = photo.shape[:2]
    if rng.random() < 0.25:
        scale = rng.uniform(0.7, 0.95)
        small = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        photo = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.25:
        photo = noisy(photo, rng.normal(0, rng.uniform(1, 3), photo.shape))
    return encode(photo, int(rng.integers(70, 96)))


def encode(photo: np.ndarray, quality: int) -> bytes:
    """JPEG bytes of uint8 (H, W, 3), 4:2:0, standard tables."""
    buffer = BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return buffer.getvalue()


def _coco(box: np.ndarray) -> list[float]:
    """`x0, y0, x1, y1` as [x, y, width, height], rounded outwards to hundredths of a pixel."""
    x0, y0 = (np.floor(box[:2] * 100) / 100).tolist()
    x1, y1 = (np.ceil(box[2:] * 100) / 100).tolist()
    return [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)]


def _annotation(number: int, image: int, box: list[float]) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "bbox": box,
        "area": round(box[2] * box[3], 2),
        "iscrowd": 0,
        "annotator": "simulated",
    }
