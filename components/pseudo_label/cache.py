"""What was computed once, by content: a killed run goes on, and a second run is fast.

A blob is one file that carries its own SHA-256, so damage is found and the work done again. A
cache is a convenience: where its folder cannot be written, work goes on without it. Pseudo-masks
are all kept; the newest of what photos were encoded to stay within a limit on disk, which the
environment sets because it changes no result.
"""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from components.core.code import code_sha256
from components.core.errors import InputError
from components.core.files import canonical_json, sha256_bytes, write_bytes
from components.core.images import decoder

LIMIT = "IML_EMBEDDINGS_GB"
_DEFAULT = 8.0  # GB: about 2,000 photos of Segment Anything, 500 of SAM 2


@functools.cache
def maker(modules: tuple[str, ...], libraries: tuple[str, ...]) -> dict[str, Any]:
    """What makes a mask or embedding besides photo, boxes and weights: code, library versions.

    Another line in one of the modules is another mask. Libraries are distributions besides NumPy
    and OpenCV; their versions are looked up, so that teachers without weights start without torch.
    """
    return {
        "code": code_sha256(*modules),
        "versions": {name: version(name) for name in ("numpy", *libraries)},
        "opencv": cv2.__version__,
        "decoder": decoder(),
    }


@dataclass(frozen=True)
class Blobs:
    """Bytes by key (64 hex digits), below a folder; `kind` names what they are and how written."""

    folder: Path
    kind: str

    def path(self, key: str) -> Path:
        """Where the bytes of `key` lie."""
        return self.folder / key[:2] / f"{key}.{self.kind.partition('/')[0]}"

    def get(self, key: str) -> bytes | None:
        """The bytes, or None where there are none that are whole."""
        try:
            data = self.path(key).read_bytes()
        except OSError:
            return None
        head, body = data[: len(self._head(key, b""))], data[len(self._head(key, b"")) :]
        return body if head == self._head(key, body) else None

    def put(self, key: str, body: bytes) -> str | None:
        """Keep bytes, atomically; why they could not be kept, or None."""
        try:
            write_bytes(self.path(key), self._head(key, body) + body)
        except OSError as error:
            return error.strerror or str(error)
        return None

    def _head(self, key: str, body: bytes) -> bytes:
        return f"iml-{self.kind}\n{sha256_bytes(key.encode() + body)}".encode()


@dataclass(frozen=True)
class Entry:
    """One finished pseudo-mask: its 8-bit PNG and its numbers (JSON values)."""

    png: bytes
    numbers: dict[str, Any]


class Cache:
    """Finished pseudo-masks below a folder, by key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._blobs = Blobs(folder, "label/1")

    def get(self, key: str) -> Entry | None:
        """The entry, or None where there is none that is whole."""
        body = self._blobs.get(key)
        if body is None:
            return None
        numbers, _, png = body.partition(b"\n")
        return Entry(png, json.loads(numbers))

    def put(self, key: str, entry: Entry) -> str | None:
        """Keep an entry; why it could not be kept, or None."""
        return self._blobs.put(key, canonical_json(entry.numbers) + b"\n" + entry.png)


class Embeddings:
    """float32 arrays, one or several a key, below a folder; the longest unused ones go first.

    Segment Anything's encoder takes seconds a photo and its decoder hundredths, so another box on
    a photo seen before is cheap. Raises InputError where the limit in the environment is no number.
    """

    def __init__(self, folder: Path) -> None:
        self._blobs = Blobs(folder, "embedding/2")
        text = os.environ.get(LIMIT, "").strip()
        try:
            self._limit = float(text or _DEFAULT) * 1e9
        except ValueError:
            raise InputError(f"not a number: {text!r}", where=LIMIT, hint="e.g. 8") from None
        self._used: int | None = None

    def get(self, key: str) -> list[np.ndarray] | None:
        """The arrays of `key`, or None; what is used stays longer."""
        body = self._blobs.get(key)
        if body is None:
            return None
        with suppress(OSError):  # a read-only cache serves all the same
            os.utime(self._blobs.path(key))
        shapes, _, data = body.partition(b"\n")
        values, arrays, start = np.frombuffer(data, np.float32), [], 0
        for shape in json.loads(shapes):
            size = math.prod(shape)
            arrays.append(values[start : start + size].reshape(shape).copy())
            start += size
        return arrays

    def put(self, key: str, embedding: Sequence[np.ndarray]) -> None:
        """Keep arrays; where the folder cannot be written they are not kept."""
        parts = [np.ascontiguousarray(part, np.float32).tobytes() for part in embedding]
        body = b"".join([canonical_json([part.shape for part in embedding]), b"\n", *parts])
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
