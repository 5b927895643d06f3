"""Synthesize: a whole data set folder of manipulated and authentic photos, from a seed.

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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from components.core.errors import InputError
from components.core.progress import Progress
from components.core.seeds import generator
from components.data import dataset
from components.data.manifest import AUTHENTIC, MANIPULATED
from components.synthesis import compose
from components.synthesis.items import Item, Made, make
from components.synthesis.sources import Group, deal, open_cutout

SIZE = (384, 256)
_KINDS = (compose.SPLICE, compose.COPY_MOVE, compose.REMOVAL)
_KIND_SHARES = (0.5, 0.3, 0.2)


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
        items = _plan(partial, groups, manipulated, authentic, seed, jitter, size)
        made = []
        for done, one in enumerate(_make_all(items, workers), start=1):
            made.append(one)
            if progress is not None:
                progress(done, len(items))
        _save(partial, out.name, made, licence, source)
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
    out: Path,
    groups: list[Group],
    manipulated: int,
    authentic: int,
    seed: int,
    jitter: float,
    size: tuple[int, int],
) -> list[Item]:
    """What to make: both labels go through the same photos in the same order."""
    depth = max(len(group.photos) for group in groups)
    bases = [(g, g.photos[i]) for i in range(depth) for g in groups if i < len(g.photos)]
    kinds: list[str | None] = [*_kinds(manipulated, seed), *[None] * authentic]
    items = []
    for index, kind in enumerate(kinds):
        place = index if kind else index - manipulated
        group, base = bases[place % len(bases)]
        label = MANIPULATED if kind else AUTHENTIC
        items.append(Item(index, label, kind, base, group, size, seed, jitter, out))
    return items


def _kinds(count: int, seed: int) -> list[str]:
    """The kinds of `count` manipulated photos in their shares, shuffled."""
    edges = np.round(np.cumsum(_KIND_SHARES) * count).astype(int)
    kinds = [_KINDS[int(np.searchsorted(edges, index, side="right"))] for index in range(count)]
    return [kinds[index] for index in generator(seed, "kinds").permutation(count)]


def _make_all(items: list[Item], workers: int | None) -> Iterator[Made]:
    """Make all items in their order, in as many processes as there are cores."""
    workers = min(len(items), workers or os.cpu_count() or 1)
    if workers == 1:
        yield from map(make, items)
        return
    context = multiprocessing.get_context("spawn")  # the caller may have threads
    # On Ctrl-C a terminal interrupts every process; the parent ends the others itself.
    deaf = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=deaf) as pool:
        try:
            yield from pool.map(make, items, chunksize=4)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _save(out: Path, name: str, made: list[Made], licence: str, source: str) -> None:
    """Write the index and the card."""
    annotations: list[dict[str, Any]] = []
    for one in made:
        for box in one.boxes:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": one.image["id"],
                    "category_id": 1,
                    "bbox": box,
                    "area": round(box[2] * box[3], 2),
                    "iscrowd": 0,
                    "annotator": "simulated",
                }
            )
    dataset.save(
        dataset.Dataset(
            root=out,
            name=name,
            licence=licence,
            source=source,
            boxes="given",
            split="grouped",
            images=[one.image for one in made],
            annotations=annotations,
            description="Manipulated photos composed from authentic ones, with exact masks",
        )
    )
