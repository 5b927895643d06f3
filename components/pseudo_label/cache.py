"""What was computed once, by content: a killed run goes on, and a second run is fast.

A blob is one file that carries its own SHA-256, so damage is found and the work done again. A
cache is a convenience: where its folder cannot be written, work goes on without it.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2

from components.core.code import code_sha256
from components.core.files import canonical_json, sha256_bytes, write_bytes
from components.core.images import decoder


@functools.cache
def maker(modules: tuple[str, ...], libraries: tuple[str, ...]) -> dict[str, Any]:
    """What makes a mask or embedding besides photo, boxes and weights: code, library versions.

    Args:
        modules: whose code makes it; another line in one of them is another mask.
        libraries: distributions besides NumPy and OpenCV. Their versions are looked up, not
            imported, so that teachers without weights start without torch.
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
