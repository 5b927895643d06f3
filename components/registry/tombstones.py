"""Tombstones: signed statements that a photo was erased, and what went with it.

A tombstone is `PHOTO_SHA256.json` in the project's `tombstones`, which is in git, and in MLflow
beside the signatures of the versions that showed the photo. It names by hash what is absent since:
objects of the DVC remote, and files of signed version folders. Whatever is absent and has a valid
tombstone was erased; whatever is absent without one is missing.

It is signed like a row of the ledger (see `row_signatures`), over its canonical JSON.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from components.core.errors import EvidenceError, InputError
from components.core.files import read_json, sha256_json, write_json
from components.core.paths import TOMBSTONES
from components.registry import row_signatures, signing

SCHEMA = 1


@dataclass(frozen=True)
class Tombstone:
    """What is said of one erased photo.

    Attributes:
        dataset: the data set that it was erased from.
        name_sha256: SHA-256 of its name there.
        sha256, md5, size: of its bytes.
        objects: MD5 of what was erased from DVC's cache and remotes: the photo, its masks and
            pseudo-masks, and sheets and pages that show several photos.
        listings: MD5 of the folders' listings that name the photo; these are kept.
        files: of signed version folders, SHA-256 by `MODEL/VERSION/PATH`.
        versions: `MODEL/VERSION` of those that used it, with what for.
        reason, who, when: of the erasure; the time is UTC, ISO 8601.
    """

    dataset: str
    name_sha256: str
    sha256: str
    md5: str
    size: int
    objects: tuple[str, ...] = ()
    listings: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    who: str = ""
    when: str = ""

    def trained(self, version: str) -> bool:
        """Whether a version was trained or tuned on the photo, or may have been."""
        return not {*self.versions.get(version, "test").split(", ")} <= {"test", "evaluated"}

    def line(self) -> str:
        """For people."""
        return f"erased {self.when[:10]} by {self.who}: {self.reason}"


_PARSER = TypeAdapter(Tombstone)  # making one takes as long as verifying several tombstones


@dataclass(frozen=True)
class Tombstones:
    """Those that a trusted key signed, by file; and what is wrong with the others, by file."""

    valid: Mapping[str, Tombstone] = field(default_factory=dict)
    problems: Mapping[str, EvidenceError] = field(default_factory=dict)

    @cached_property
    def objects(self) -> dict[str, Tombstone]:
        """By the MD5 of each object that was erased."""
        return {md5: stone for stone in self.valid.values() for md5 in stone.objects}

    @cached_property
    def files(self) -> dict[str, Tombstone]:
        """By the SHA-256 of each file that was erased from a signed folder."""
        return {sha: stone for stone in self.valid.values() for sha in stone.files.values()}

    @cached_property
    def photos(self) -> dict[str, Tombstone]:
        """By the SHA-256 of each photo."""
        return {stone.sha256: stone for stone in self.valid.values()}


def place(sha256: str, folder: Path = TOMBSTONES) -> Path:
    """Where the tombstone of a photo is."""
    return folder / f"{sha256}.json"


def write(stone: Tombstone) -> Path:
    """Sign a tombstone and write it into the project; on disk when this returns."""
    signer = signing.signer()
    statement = {"schema": SCHEMA, **asdict(stone), "signing_key": signer.mark}
    signature = base64.b64encode(signer.sign(_text(statement))).decode()
    path = place(stone.sha256)
    write_json(path, {**statement, "signature": signature})
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return path


def read(*folders: Path) -> Tombstones:
    """Every tombstone in some folders, which need not exist; the same one counts once."""
    valid: dict[str, Tombstone] = {}
    problems: dict[str, EvidenceError] = {}
    # A hidden one was being written when its writer was killed.
    for path in sorted(path for folder in folders for path in folder.glob("[!.]*.json")):
        try:
            valid[str(path)] = _read(path)
        except EvidenceError as error:
            problems[str(path)] = error
    return Tombstones(valid, problems)


def _text(statement: Mapping[str, Any]) -> str:
    return f"tombstone {sha256_json(statement)}\n"


def _read(path: Path) -> Tombstone:
    """A verified tombstone; raises EvidenceError, or UntrustedError for a key not known here."""
    try:
        found = read_json(path)
        signature = base64.b64decode(found.pop("signature"), validate=True)
        schema, mark = found["schema"], str(found["signing_key"])
        text = _text(found)
        if schema != SCHEMA:
            what = f"this tombstone has schema {schema}; this program knows {SCHEMA}"
            raise signing.UntrustedError(what, where=str(path))
        key = signing.trusted(mark)
        if not signing.signed_text(text, signature, key):
            what = "this tombstone is forged: it was not signed by the key that it names"
            raise EvidenceError(what, where=str(path))
        stone = _parsed(found)
        if why := row_signatures.rules(key).outside(datetime.fromisoformat(stone.when)):
            raise EvidenceError(f"this tombstone counts for nothing: {why}", where=str(path))
    except signing.UntrustedError as error:
        what = f"this tombstone counts for nothing here: {error.what}"
        raise signing.UntrustedError(what, where=str(path), hint=error.hint) from None
    except (InputError, AttributeError, KeyError, TypeError, ValueError):
        raise EvidenceError("this is no tombstone", where=str(path)) from None
    if path.stem != stone.sha256:
        raise EvidenceError("this tombstone is of another photo than its name", where=str(path))
    return stone


def _parsed(found: Mapping[str, Any]) -> Tombstone:
    values = {one.name: found[one.name] for one in fields(Tombstone)}
    return _PARSER.validate_python(values)


def covered(absent: Iterable[str], *folders: Path) -> bool:
    """Whether each of some SHA-256 is of a file that has a valid tombstone."""
    return set(absent) <= read(*folders).files.keys()
