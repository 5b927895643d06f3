"""Image embeddings kept between runs: another box on a photo costs no second encoding.

Segment Anything's encoder takes seconds a photo and its decoder hundredths, so a corrected box is
cheap once its photo was seen. The newest embeddings stay within a limit on disk, which the
environment sets because it changes no result.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import numpy as np

from components.core.errors import InputError
from components.pseudo_label.cache import Blobs

LIMIT = "IML_EMBEDDINGS_GB"
_DEFAULT = 8.0  # GB: about 2,000 photos


class Embeddings:
    """float32 arrays (C, G, G) below a folder, by key; the longest unused ones go first.

    Raises InputError where the limit in the environment is no number.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...]) -> None:
        self._blobs, self._shape = Blobs(folder, "embedding/1"), shape
        text = os.environ.get(LIMIT, "").strip()
        try:
            self._limit = float(text or _DEFAULT) * 1e9
        except ValueError:
            raise InputError(f"not a number: {text!r}", where=LIMIT, hint="e.g. 8") from None
        self._used: int | None = None

    def get(self, key: str) -> np.ndarray | None:
        """The array of `key`, or None; what is used stays longer."""
        body = self._blobs.get(key)
        if body is None:
            return None
        with suppress(OSError):  # a read-only cache serves all the same
            os.utime(self._blobs.path(key))
        return np.frombuffer(body, np.float32).reshape(self._shape).copy()

    def put(self, key: str, embedding: np.ndarray) -> None:
        """Keep an array; where the folder cannot be written it is not kept."""
        body = np.ascontiguousarray(embedding, np.float32).tobytes()
        if len(body) > self._limit or self._blobs.put(key, body):
            return
        if self._used is None:
            self._used = sum(size for _, size, _ in self._files())
        else:
            self._used += self._blobs.path(key).stat().st_size
        if self._used > self._limit:
            self._used = self._trim()

    def _files(self) -> list[tuple[float, int, Path]]:
        """Time of last use, bytes and path of every kept array."""
        found = []
        for path in self._blobs.folder.glob("*/*.embedding"):
            try:
                status = path.stat()
            except OSError:  # removed by another run meanwhile
                continue
            found.append((status.st_mtime, status.st_size, path))
        return found

    def _trim(self) -> int:
        """Remove the longest unused ones down to nine tenths of the limit; what is left."""
        files = sorted(self._files())
        used = sum(size for _, size, _ in files)
        for _, size, path in files:
            if used <= 0.9 * self._limit:
                break
            path.unlink(missing_ok=True)
            used -= size
        return used
