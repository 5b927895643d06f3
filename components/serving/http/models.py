"""The student that answers, exchanged for a new champion while requests are answered.

A new one is found (which verifies its files), loaded and tried before it takes the old one's place;
where any of that fails the old one stays, and `problem` says why.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from components.core.errors import ImlError, brief
from components.core.files import read_json
from components.core.seeds import generator
from components.serving import own_code
from components.serving.http.metrics import Metrics
from components.serving.origin import Origin, Student
from components.serving.predictor import Predictor
from components.student.config import CONFIG

_log = logging.getLogger("iml")
# Finds the student that is to answer, verified; argument: whether a copy that was the champion
# when the ledger last answered will do.
Find = Callable[[bool], Student]


@dataclass
class Model:
    """A student that was loaded and has given a usable answer."""

    student: Student
    predictor: Predictor
    origin: Origin
    image_threshold: float | None  # a score above it calls a photo manipulated; None: not set
    failure: str | None = None  # why it gave no answer when it was last asked

    def now(self) -> Origin:
        """The origin of an answer made now."""
        return replace(self.origin, made_at=_now())


class Models:
    """Holds the student that answers."""

    def __init__(self, find: Find, metrics: Metrics, device: str = "cpu") -> None:
        self.current: Model | None = None
        self.problem: str | None = None  # why the last look for a new one failed
        self.checked = ""  # when that was
        self._find, self._metrics, self._device = find, metrics, device
        self._stopped = threading.Event()

    def refresh(self) -> None:
        """Exchange the student if another one is to answer, or if it has stopped answering.

        Raises:
            ImlError: no other can be found, verified, loaded or used; the old one stays.
        """
        old, self.checked = self.current, _now()
        student = self._find(old is None)
        if old and not old.failure and student[1:3] == old.student[1:3]:
            return
        self.current = new = self._load(student)
        self._metrics.name_model(new.origin)
        if old:
            _log.warning(f"{new.student.name} answers now, in place of {old.student.name}")

    def keep_fresh(self, seconds: float) -> None:
        """Look for another student every so many seconds until `stop`; runs in its own thread."""
        while not self._stopped.wait(seconds):
            self.look()

    def look(self) -> None:
        """`refresh`, and keep what went wrong."""
        try:
            self.refresh()
        except ImlError as error:
            self.note(error.line())
        except Exception as error:  # whatever a database or a disk raises: the old one answers
            self.note(f"{type(error).__name__}: {brief(error)}")
        else:
            self.note(None)

    def note(self, problem: str | None) -> None:
        """Keep why the last look failed, None if it did not; it is logged once."""
        before, self.problem = self.problem, problem
        self._metrics.refreshed(problem is None)
        if problem and problem != before:
            kept = f"{self.current.student.name} stays" if self.current else "no model answers"
            _log.warning(f"{kept}: {problem}")

    def stop(self) -> None:
        """End `keep_fresh`."""
        self._stopped.set()

    def _load(self, student: Student) -> Model:
        predictor = own_code.load(student, device=self._device)
        sample = generator(0, "serve").integers(0, 256, (64, 96, 3), dtype=np.uint8)
        predictor.predict([sample])  # raises InputError where its answer is unusable
        # Code of another time may have written it.
        threshold = read_json(student.folder / CONFIG).get("image_threshold")
        return Model(student, predictor, Origin.of(student, predictor.weights_sha256), threshold)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
