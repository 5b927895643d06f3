"""Who gets which photo: each goes to one person, some to two for a second opinion.

A photo that is shown to a person is lent to them for a while; what they leave undecided goes back
into the queue when that is over. Everybody can go back along the photos they were shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import NamedTuple

from components.annotate.decisions import Decisions
from components.core.files import sha256_bytes

_LENT = 900.0  # seconds without a sign of life


class Place(NamedTuple):
    """A photo on a person's way: its position there, and its number."""

    position: int
    photo: int


class Desk:
    """Photos, by number in the queue's order, and people, by name.

    Args:
        names: of the photos, in the order in which they are given out.
        decisions: what was decided before.
        overlap: share of the photos that two people see; which, depends on their names alone.
        clock: seconds, for leases.
    """

    def __init__(
        self,
        names: Sequence[str],
        decisions: Decisions,
        overlap: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._names, self._clock, self._lock = names, clock, Lock()
        self._opinions = [2 if _share(name) < overlap else 1 for name in names]
        self._lent: dict[int, dict[str, float]] = {}  # until when, by person
        self._decided: dict[int, set[str]] = {}
        self._ways: dict[str, list[int]] = {}
        numbers = {name: number for number, name in enumerate(names)}
        for one in decisions.all():
            if one.photo in numbers:
                self._ways.setdefault(one.annotator, []).append(numbers[one.photo])
                self._decided.setdefault(numbers[one.photo], set()).add(one.annotator)

    def open(self, annotator: str, position: int | None = None) -> Place | None:
        """The photo at a position of a person's way: a new one at its end, None where none is left.

        Without a position the one to go on with: the first that they left undecided, else a new
        one. A position beyond the end leads to those left undecided when there is no new one.
        """
        with self._lock:
            way = self._ways.setdefault(annotator, [])
            undecided = [n for n, photo in enumerate(way) if not self._has(annotator, photo)]
            undecided = [n for n in undecided if self._is_free(annotator, way[n])]
            if position is None and undecided:
                position = undecided[0]
            if position is None or position >= len(way):
                new = next(self._new(annotator), None)
                if new is not None:
                    way.append(new)
                elif not undecided:
                    return None
                position = len(way) - 1 if new is not None else undecided[0]
            position = max(0, position)
            self._lend(annotator, way[position])
            return Place(position, way[position])

    def ahead(self, annotator: str, count: int) -> list[int]:
        """The photos that this person is likely to be given next."""
        with self._lock:
            new = self._new(annotator)
            return [photo for photo, _ in zip(new, range(count), strict=False)]

    def stays(self, annotator: str, photo: int) -> None:
        """A sign of life: the photo stays lent."""
        with self._lock:
            if annotator in self._lent.get(photo, {}):
                self._lend(annotator, photo)

    def decided(self, annotator: str, photo: int) -> None:
        """A person decided about a photo, which is not lent to them any more."""
        with self._lock:
            self._decided.setdefault(photo, set()).add(annotator)
            self._lent.get(photo, {}).pop(annotator, None)

    def left(self) -> int:
        """How many photos still lack an opinion."""
        return sum(
            len(self._decided.get(photo, ())) < wanted
            for photo, wanted in enumerate(self._opinions)
        )

    def _new(self, annotator: str) -> Iterator[int]:
        seen = set(self._ways.get(annotator, ()))
        return (
            photo
            for photo in range(len(self._names))
            if photo not in seen and self._is_free(annotator, photo)
        )

    def _is_free(self, annotator: str, photo: int) -> bool:
        """Whether an opinion of this person is wanted."""
        now, others = self._clock(), set(self._decided.get(photo, ()))
        others |= {name for name, until in self._lent.get(photo, {}).items() if until > now}
        return len(others - {annotator}) < self._opinions[photo]

    def _has(self, annotator: str, photo: int) -> bool:
        return annotator in self._decided.get(photo, ())

    def _lend(self, annotator: str, photo: int) -> None:
        if not self._has(annotator, photo):
            self._lent.setdefault(photo, {})[annotator] = self._clock() + _LENT


def _share(name: str) -> float:
    """A number from 0 to 1 that belongs to a name."""
    return int(sha256_bytes(name.encode())[:8], 16) / 2**32
