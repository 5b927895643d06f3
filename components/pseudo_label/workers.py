"""Photos through a teacher in workers: read here, decoded and labelled there, kept here.

Photos travel in small groups, so that a teacher can fill its batches. A photo's mask depends
neither on its group nor on the worker: batches are padded to one size and threads are fixed. All
files are read and written here, so the nodes of a cluster need no shared disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from components.core.crew import Crew, Way
from components.core.errors import InputError
from components.core.files import sha256_bytes
from components.core.images import MAX_MEGAPIXELS, decode_photo, read_bytes
from components.core.params import PseudoLabel
from components.core.stream import ahead, batches
from components.pseudo_label import prompts, quality, registry
from components.pseudo_label.cache import Cache, Entry
from components.pseudo_label.candidates import Identity, Prompt, Teacher


@dataclass(frozen=True)
class Job:
    """One photo to label, as the manifest has it."""

    image_id: str
    key: str  # of the result in the cache
    photo: Path
    sha256: str
    pixels: str  # see `components.core.images.pixels_id`
    size: tuple[int, int]  # width, height in pixels
    boxes: np.ndarray  # float64 (N, 4), as drawn
    target: Path  # the mask to write
    true_mask: Path | None  # where it is known; only measured with

    @property
    def megapixels(self) -> float:
        """The size limit under which its files are opened: what the manifest says they have."""
        return max(MAX_MEGAPIXELS, (self.size[0] * self.size[1] + 1) / 1e6)

    def read(self) -> bytes:
        """The photo's file; raises InputError where it or a box is not what the manifest says."""
        try:
            prompts.expand(self.boxes, 0.0, *self.size)
        except InputError as error:
            raise InputError(error.what, where=self.image_id, hint=error.hint) from None
        data = read_bytes(self.photo, self.megapixels)
        if sha256_bytes(data) != self.sha256:
            raise InputError(
                "is not the photo of the manifest (its SHA-256 differs)",
                where=str(self.photo),
                hint="run the stage `prepare` again",
            )
        return data

    def decode(self, data: bytes) -> np.ndarray:
        """The photo's pixels, uint8 (H, W, 3)."""
        return decode_photo(data, str(self.photo), self.megapixels)

    def write(self, entry: Entry) -> None:
        """Write the mask into an empty output folder; the cache has the durable copy."""
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self.target.write_bytes(entry.png)


Read = list[tuple[Job, bytes]]  # a group of jobs, each with its photo's file
Labelled = list[tuple[Job, Entry]]
Done = tuple[Job, dict[str, Any], str | None]


class Labeller:
    """A teacher in a worker, built at the first question, so that it can complain."""

    def __init__(self, params: PseudoLabel) -> None:
        self._params = params

    @cached_property
    def _teacher(self) -> Teacher:
        return registry.build(self._params)

    @property
    def way(self) -> Way:
        """As its teacher says."""
        return "processes" if self._teacher.processes else "alone"

    def identity(self) -> Identity:
        """What the masks made here depend on: nodes with other hardware may round otherwise."""
        return registry.identity(self._teacher)

    def work(self, shard: Read) -> Labelled:
        """The finished pseudo-masks of a group."""
        photos = ahead(shard, lambda one: one[0].decode(one[1]))
        asked = [
            Prompt(photo, job.boxes, job.pixels)
            for (job, _), photo in zip(shard, photos, strict=True)
        ]
        made = quality.pseudo_masks(self._teacher, asked)
        return [
            (job, Entry(mask.png(), mask.numbers()))
            for (job, _), mask in zip(shard, made, strict=True)
        ]


def crew(params: PseudoLabel) -> Crew[Read, Labelled]:
    """Workers with the teacher of `params`."""
    return Crew(Labeller, params, threads=params.threads, gpu=True)


def run(workers: Crew[Read, Labelled], jobs: Iterable[Job], cache: Cache) -> Iterator[Done]:
    """Label photos, in order, which are then in the cache and where they belong.

    Yields the job, its numbers (the columns of a label that depend on photo and boxes alone),
    and why the cache could not be written, or None. Raises InputError for a photo or box that
    cannot be used, OSError for a mask that cannot be written (full disk).
    """
    groups = batches(jobs, lambda job: job.size[0] * job.size[1])
    made = workers.map(ahead(groups, lambda group: [(job, job.read()) for job in group]))
    for group in ahead(made, partial(_keep, cache=cache)):
        yield from group


def _keep(made: Sequence[tuple[Job, Entry]], cache: Cache) -> list[Done]:
    done: list[Done] = []
    for job, entry in made:
        complaint = cache.put(job.key, entry)
        job.write(entry)
        done.append((job, entry.numbers, complaint))
    return done
