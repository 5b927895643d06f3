"""A registered version that today's code cannot load, served by the code that it carries.

A version's folder holds the program that made it (`code`, see `components.registry.package`). Its
`components.serving.predictor.Predictor` answers in a process of its own, so that its modules never
mix with today's; every version has its `predict`, with the three fields of `Prediction`.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from multiprocessing import Pipe
from pathlib import Path
from typing import NoReturn

import numpy as np

from components.core.errors import EvidenceError, InputError
from components.core.files import sha256_file
from components.serving.origin import Student
from components.serving.predictor import Prediction, Predictor
from components.student.config import WEIGHTS

_PROGRAM = """
import io, sys
from multiprocessing.connection import Connection
folder, line = sys.argv[1], Connection(int(sys.argv[2]))
sys.path.insert(0, folder + "/code")
import numpy
from components.serving.predictor import Predictor
predictor = Predictor(folder + "/artifacts")
line.send_bytes(b"ready")
while True:
    try:
        photo = numpy.load(io.BytesIO(line.recv_bytes()), allow_pickle=False)
    except EOFError:
        break
    (found,) = predictor.predict([photo])
    answer = io.BytesIO()
    numpy.savez(answer, probability=found.probability, score=found.score, area=found.area)
    line.send_bytes(answer.getvalue())
"""
_log = logging.getLogger("iml")


def load(student: Student, threads: int = 0, device: str = "cpu") -> Predictor:
    """A student by today's code; a registered version that this cannot load, by its own code.

    Args:
        student: of a registered version, its code is verified before it is run.
        threads: as of `Predictor`; a version's own code has its own.
        device: likewise.

    Raises:
        InputError: it cannot be loaded.
        EvidenceError: not by today's code, and its own may not be run here.
    """
    try:
        return Predictor(student.folder, threads, device)
    except InputError as error:
        if student.version is None:
            raise
        if refusal := student.refusal():
            raise EvidenceError(
                f"today's code cannot load it ({error.what}), and the code that it carries is not "
                f"run: {refusal.what}",
                where=student.name,
                hint=refusal.hint,
            ) from None
        _log.warning(f"{student.name} is served by the code that it carries ({error.what})")
        return OwnCode(student.folder)


class OwnCode(Predictor):
    """As `Predictor`."""

    def __init__(self, folder: Path) -> None:
        """Start the version's program and wait until it has loaded the student.

        Args:
            folder: with the student's files, within the version's folder.

        Raises:
            InputError: it does not start, e.g. because a package is missing.
        """
        self._folder, self._lock = folder, threading.Lock()
        self.weights_sha256 = sha256_file(folder / WEIGHTS)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self._line, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(folder.parent), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                env=_environment(),
                cwd=folder.parent,
            )
        self._receive()

    def __reduce__(self) -> NoReturn:
        """It does not leave this machine."""
        raise InputError(
            "the code that the version carries runs on this machine only",
            where=str(self._folder),
            hint="unset RAY_ADDRESS",
        )

    def probabilities(self, photos: Sequence[np.ndarray]) -> list[np.ndarray]:
        """As `Predictor.probabilities`."""
        return [found.probability for found in self.predict(photos)]

    def predict(self, photos: Sequence[np.ndarray]) -> list[Prediction]:
        """As `Predictor.predict`."""
        with self._lock:
            return [self._ask(photo) for photo in photos]

    def _ask(self, photo: np.ndarray) -> Prediction:
        request = BytesIO()
        np.save(request, photo, allow_pickle=False)
        with suppress(BrokenPipeError):  # `_receive` says why it ended
            self._line.send_bytes(request.getbuffer())
        with np.load(BytesIO(self._receive()), allow_pickle=False) as found:
            score, area = float(found["score"]), float(found["area"])
            return Prediction(found["probability"], score, area)

    def _receive(self) -> bytes:
        try:
            return self._line.recv_bytes()
        except (EOFError, ConnectionError):
            code = self._process.wait()
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").strip().splitlines()
            raise InputError(
                f"the code that the version carries fails ({[f'exit code {code}', *lines][-1]})",
                where=str(self._folder.parent),
                hint="install the packages of its requirements.txt, or use another version",
            ) from None


def _environment() -> dict[str, str]:
    """Without today's code, which must not be found first; nothing is written into the folder."""
    others = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    return {**others, "PYTHONDONTWRITEBYTECODE": "1"}
