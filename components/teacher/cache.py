"""Finished pseudo-masks by content: what makes a killed run go on, and a second run fast.

An entry is one file that carries its own SHA-256, so damage is found and the mask made again. The
cache is a convenience: where its folder cannot be written, work goes on without it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.files import canonical_json, sha256_bytes, write_bytes

_MAGIC = b"iml-pseudo-label/1\n"


@dataclass(frozen=True)
class Entry:
    """One finished pseudo-mask: its 8-bit PNG and its numbers (JSON values)."""

    png: bytes
    numbers: dict[str, Any]


@dataclass(frozen=True)
class Cache:
    """Entries below a folder, by key (64 hex digits)."""

    folder: Path

    def path(self, key: str) -> Path:
        """Where the entry of `key` lies."""
        return self.folder / key[:2] / f"{key}.label"

    def get(self, key: str) -> Entry | None:
        """The entry, or None where there is none that is whole."""
        try:
            data = self.path(key).read_bytes()
        except OSError:
            return None
        head = len(_MAGIC) + 64
        body = data[head:]
        if data[:head] != _MAGIC + sha256_bytes(key.encode() + body).encode():
            return None
        numbers, _, png = body.partition(b"\n")
        return Entry(png, json.loads(numbers))

    def put(self, key: str, entry: Entry) -> str | None:
        """Keep an entry, atomically; why it could not be kept, or None."""
        body = canonical_json(entry.numbers) + b"\n" + entry.png
        digest = sha256_bytes(key.encode() + body).encode()
        try:
            write_bytes(self.path(key), _MAGIC + digest + body)
        except OSError as error:
            return error.strerror or str(error)
        return None
