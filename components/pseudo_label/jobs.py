"""What is done to one group of photos: read, decode, ask the teacher, keep the mask.

Photos travel in small groups, so that a teacher can fill its batches. A photo's mask depends
neither on its group nor on who handles it: batches are padded to one size and threads are fixed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.core.errors import InputError
from components.core.files import sha256_bytes
from components.core.images import MAX_MEGAPIXELS, decode_photo, read_bytes
from components.pseudo_label import prompts, quality
from components.pseudo_label.cache import Cache, Entry
from components.pseudo_label.candidates import Teacher

_GROUP = 16  # photos that travel together at most...
_GROUP_PIXELS = 16_000_000  # ... and pixels, unless one photo alone has more


@dataclass(frozen=True)
class Job:
    """One photo to label.

    Attributes:
        image_id: as in the manifest.
        key: of the result in the cache.
        photo: file to read.
        sha256: of its bytes, from the manifest.
        size: (width, height) in pixels, from the manifest.
        boxes: float64 (N, 4), as drawn.
        target: the mask to write.
    """

    image_id: str
    key: str
    photo: Path
    sha256: str
    size: tuple[int, int]
    boxes: np.ndarray
    target: Path

    @property
    def megapixels(self) -> float:
        """The size limit under which its files are opened: what the manifest says they have."""
        return max(MAX_MEGAPIXELS, (self.size[0] * self.size[1] + 1) / 1e6)


Done = tuple[Job, dict[str, Any], str | None]


def groups(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    """Jobs as they travel together: bounded in number and in pixels."""
    group: list[Job] = []
    pixels = 0
    for job in jobs:
        more = job.size[0] * job.size[1]
        if group and (len(group) == _GROUP or pixels + more > _GROUP_PIXELS):
            yield group
            group, pixels = [], 0
        group, pixels = [*group, job], pixels + more
    if group:
        yield group


def photo_bytes(job: Job) -> bytes:
    """The photo's file; raises InputError where it is not the manifest's."""
    data = read_bytes(job.photo, job.megapixels)
    if sha256_bytes(data) != job.sha256:
        raise InputError(
            "is not the photo of the manifest (its SHA-256 differs)",
            where=str(job.photo),
            hint="run the stage `prepare` again",
        )
    return data


def check_boxes(job: Job) -> None:
    """Raise InputError, naming the photo, where a box cannot be asked for."""
    try:
        prompts.expand(job.boxes, 0.0, *job.size)
    except InputError as error:
        raise InputError(error.what, where=job.image_id, hint=error.hint) from None


def entries(jobs: Sequence[Job], photos: Sequence[np.ndarray], teacher: Teacher) -> Iterator[Entry]:
    """The finished pseudo-masks of a group of decoded photos, in order."""
    asked = [(photo, job.boxes, job.sha256) for job, photo in zip(jobs, photos, strict=True)]
    for made in quality.pseudo_masks(teacher, asked):
        yield Entry(made.png(), made.numbers())


def keep(job: Job, entry: Entry, cache: Cache) -> Done:
    """Put a finished mask into the cache and write it where it belongs."""
    complaint = cache.put(job.key, entry)
    write_mask(job, entry)
    return job, entry.numbers, complaint


def write_mask(job: Job, entry: Entry) -> None:
    """Write a mask below an output folder that is made anew; the cache has the durable copy."""
    job.target.parent.mkdir(parents=True, exist_ok=True)
    job.target.write_bytes(entry.png)


def decode(job: Job) -> np.ndarray:
    """The photo of a job, uint8 (H, W, 3), checked against the manifest."""
    check_boxes(job)
    return decode_photo(photo_bytes(job), str(job.photo), job.megapixels)


def label(
    group: Sequence[Job], photos: Sequence[np.ndarray], teacher: Teacher, cache: Cache
) -> Iterator[Done]:
    """Make and keep the pseudo-masks of a group, one after another."""
    for job, entry in zip(group, entries(group, photos, teacher), strict=True):
        yield keep(job, entry, cache)
