"""One sitting: what the page may ask, each a method; HTTP is `server`'s, files are `decisions`'."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from components.annotate.agreement import agreement
from components.annotate.decisions import MARKS, NOT_USABLE, Decision, Decisions
from components.annotate.desk import Desk
from components.annotate.masks import Assistant, Ready, Shown
from components.annotate.photos import Corners, Photo
from components.core.errors import InputError
from components.core.images import PhotoError
from components.data.manifest import MANIPULATED

_AHEAD = 2  # photos decoded beforehand
_MOST_BOXES = 200  # of a photo


@dataclass(frozen=True)
class Progress:
    """How far everybody is."""

    photos: int
    decided: int  # photos with at least one opinion
    left: int  # photos that lack an opinion
    marks: dict[str, int]  # opinions
    seconds: float  # of attention, of all opinions
    pace: float | None  # opinions an hour of attention


def progress(decisions: Sequence[Decision], photos: int, left: int) -> Progress:
    """Sum decisions up."""
    marks, seconds = Counter(one.mark for one in decisions), sum(one.seconds for one in decisions)
    return Progress(
        photos=photos,
        decided=len({one.photo for one in decisions}),
        left=left,
        marks={mark: marks[mark] for mark in MARKS},
        seconds=seconds,
        pace=len(decisions) / seconds * 3600 if seconds else None,
    )


class Session:
    """The photos of a source, the people who decide about them, the teacher who helps."""

    def __init__(
        self, photos: Sequence[Photo], decisions: Decisions, desk: Desk, assistant: Assistant
    ) -> None:
        self._photos, self._decisions = photos, decisions
        self._desk, self._assistant = desk, assistant

    def open(self, annotator: str, position: int | None) -> dict[str, Any] | None:
        """A photo on a person's way with what is known of it; None where none is left."""
        place = self._desk.open(annotator, position)
        if place is None:
            return None
        self._assistant.ahead([place.photo, *self._desk.ahead(annotator, _AHEAD)])
        photo = self._photos[place.photo]
        made = self._decisions.get(photo.name, annotator)
        try:
            ready, problem = self._assistant.photo(place.photo), None
        except PhotoError as error:
            ready, problem = None, error.reason
        height, width = ready.pixels.shape[:2] if ready else (0, 0)
        return {
            **place._asdict(),
            "name": photo.name,
            "width": width,
            "height": height,
            "problem": problem,
            "decided": made.mark if made else None,
            "label": photo.label,
            "reason": photo.reason,
            "boxes": made.boxes if made else [list(box) for box in photo.boxes],
            "seconds": made.seconds if made else 0.0,
        }

    def photo(self, number: int) -> Ready:
        """A photo's pixels; raises PhotoError."""
        return self._assistant.photo(self._number(number))

    def mask(self, annotator: str, number: int, box: Sequence[float]) -> Shown:
        """The teacher's mask of a box."""
        self._desk.stays(annotator, self._number(number))
        height, width = self._assistant.photo(number).pixels.shape[:2]
        return self._assistant.mask(number, _checked(box, width, height))

    def decide(
        self,
        annotator: str,
        number: int,
        mark: str,
        boxes: Sequence[Sequence[float]],
        seconds: float,
    ) -> None:
        """Keep a decision; raises InputError for one that contradicts itself."""
        if mark not in MARKS or bool(boxes) != (mark == MANIPULATED):
            raise InputError(f"{len(boxes)} boxes and the mark {mark!r} contradict each other")
        if len(boxes) > _MOST_BOXES:
            raise InputError(f"{len(boxes)} boxes", hint=f"draw at most {_MOST_BOXES}")
        photo = self._photos[self._number(number)]
        try:
            ready = self._assistant.photo(number)
        except PhotoError:
            if mark != NOT_USABLE:
                raise
            digest, size = "", (0, 0)
        else:
            digest, size = ready.sha256, ready.pixels.shape[1::-1]
        corners = [_checked(box, *size) for box in boxes]
        teacher = self._assistant.teacher
        self._decisions.write(
            Decision(
                photo=photo.name,
                photo_sha256=digest,
                width=size[0],
                height=size[1],
                annotator=annotator,
                mark=mark,
                boxes=[list(box) for box in corners],
                confidences=[self._assistant.mask(number, box).confidence for box in corners],
                seconds=round(seconds, 2),
                teacher=teacher.name,
                teacher_sha256=teacher.sha256,
                decided_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            )
        )
        self._desk.decided(annotator, number)

    def report(self) -> dict[str, Any]:
        """Progress and agreement, as plain JSON."""
        names = {photo.name for photo in self._photos}
        made = [one for one in self._decisions.all() if one.photo in names]
        return {
            **asdict(progress(made, len(names), self._desk.left())),
            "agreement": asdict(agreement(made)),
        }

    def _number(self, number: int) -> int:
        if not 0 <= number < len(self._photos):
            raise InputError(f"no photo has the number {number}")
        return number


def _checked(box: Sequence[float], width: int, height: int) -> Corners:
    """A box inside its photo; raises InputError for one that is none."""
    x0, y0, x1, y1 = box
    inside = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
    if not all(map(math.isfinite, box)) or inside[0] >= inside[2] or inside[1] >= inside[3]:
        raise InputError(f"box {list(box)} is not inside the {width}x{height} photo")
    return inside
