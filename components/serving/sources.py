"""Where photos to score come from: a folder, or an S3 prefix (`s3://bucket/prefix`).

Both are listed as a stream in the order of the names, as S3 lists its keys, so memory does not grow
with the number of photos (of a folder: with that of files in one folder).
S3's address and keys are boto3's own settings (`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, ...).
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from components.core import images
from components.core.errors import InputError, UnavailableError
from components.core.files import printable, sha256_bytes
from components.core.stream import workers

SCHEME = "s3://"
_MOST_BYTES = 256 * 2**20  # of an object, which is read into memory
_SETTINGS = "check AWS_ENDPOINT_URL, AWS_PROFILE and the keys"


class Item(NamedTuple):
    """One photo."""

    name: str  # path below the source, with `/`, in UTF-8
    mark: str  # changes when its bytes may have: size and time of a file, ETag of an object
    size: int  # bytes
    place: str  # its file, or its key in the bucket
    changed: float = 0.0  # seconds since 1970


def walk(folder: Path, out: Path) -> Iterator[Path]:
    """Photos below a folder, by path, without hidden files and the results in `out`.

    Those of formats that are not read are among them, so that they are named as such.
    """
    yield from _walk(str(folder), out.resolve())


def _walk(folder: str, results: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            # With its `/` a folder stands where the paths of its files do.
            found = [(printable(e.name) + "/" * e.is_dir(), e) for e in entries]
    except OSError:  # a folder that may not be read
        return
    for name, entry in sorted(found, key=itemgetter(0)):
        if not name.endswith("/"):
            if images.looks_like_photo(entry.name):
                yield Path(entry.path)
        elif name[0] != "." and not entry.is_symlink() and Path(entry.path).resolve() != results:
            yield from _walk(entry.path, results)


class _Folder:
    def __init__(self, folder: Path, out: Path) -> None:
        self._folder, self._out = folder, out

    def items(self) -> Iterator[Item]:
        return map(self._item, walk(self._folder, self._out))

    def item(self, name: str) -> Item:
        return self._item(self._folder / name)

    def _item(self, path: Path) -> Item:
        name = printable(path.relative_to(self._folder).as_posix())
        try:
            about = path.stat()
        except OSError:  # gone, or a broken link: reading it gives the reason
            return Item(name, "", 0, str(path))
        mark = f"{about.st_size}-{about.st_mtime_ns}"
        return Item(name, mark, about.st_size, str(path), about.st_mtime)

    def read(self, item: Item) -> bytes:
        return images.read_bytes(item.place)


class _Bucket:
    def __init__(self, place: str) -> None:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        self._place = place
        self._bucket, _, prefix = place.removeprefix(SCHEME).partition("/")
        self._prefix = f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
        if not self._bucket:
            raise InputError("names no bucket", where=place)
        settings = Config(
            retries={"max_attempts": 5, "mode": "standard"}, max_pool_connections=workers()
        )
        try:
            self._client: Any = boto3.client("s3", config=settings)
        except (BotoCoreError, ValueError) as error:
            raise InputError(f"S3 cannot be used ({error})", where=place, hint=_SETTINGS) from None

    def items(self) -> Iterator[Item]:
        from botocore.exceptions import BotoCoreError, ClientError

        pages = self._client.get_paginator("list_objects_v2")
        before = ""
        try:
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix):
                for entry in page.get("Contents", []):
                    key, mark = entry["Key"], entry["ETag"].strip('"')
                    name = key.removeprefix(self._prefix)
                    if key.endswith("/") or not images.looks_like_photo(name):
                        continue  # an object that ends in `/` marks a folder
                    if name <= before:
                        raise InputError("does not list its keys in order", where=self._place)
                    before = name
                    yield Item(name, mark, entry["Size"], key, entry["LastModified"].timestamp())
        except (BotoCoreError, ClientError) as error:
            what = f"cannot be listed ({error})"
            # An answer is a refusal; only silence is worth retrying.
            kind = InputError if isinstance(error, ClientError) else UnavailableError
            raise kind(what, where=self._place, hint=_SETTINGS) from None

    def item(self, name: str) -> Item:
        return Item(name, "", 0, self._prefix + name)

    def read(self, item: Item) -> bytes:
        from botocore.exceptions import BotoCoreError, ClientError

        images.refuse_unread(item.name)
        if item.size > _MOST_BYTES:
            raise images.PhotoError(f"{item.size / 1e6:.0f} MB is too large a file", item.name)
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=item.place)
            data: bytes = answer["Body"].read()
        except (BotoCoreError, ClientError) as error:
            raise images.PhotoError(f"cannot be fetched ({error})", item.name) from None
        return data


# Photos to list and read: `items` streams them by name, or raises InputError; `item` is that of a
# name; `read` gives one's bytes from any thread, or raises `images.PhotoError` when it is gone or
# too large.
Source = _Folder | _Bucket


def open_source(place: str, out: Path) -> Source:
    """The source at a folder's path or an `s3://bucket/prefix`; the results `out` are left out.

    Raises:
        InputError: neither a folder nor a bucket.
    """
    if place.startswith(SCHEME):
        return _Bucket(place)
    folder = Path(place)
    if not folder.is_dir():
        raise InputError("no such folder", where=place, hint=f"use a folder or {SCHEME}bucket/dir")
    return _Folder(folder, out)


@dataclass(frozen=True)
class Selection:
    """Which photos of a source: by default all."""

    since: datetime | None = None  # changed then or later; UTC where it names no time zone
    sample: int | None = None  # so many of them, drawn at random
    seed: int = 0  # of the sample

    def of(self, items: Iterable[Item]) -> Iterable[Item]:
        """Those of these items, which are sorted by name; of a sample only its items are held.

        A photo that comes or goes changes at most one other of a sample.
        """
        if self.since:
            zone = self.since.tzinfo or UTC
            start = self.since.replace(tzinfo=zone).timestamp()
            items = (item for item in items if item.changed >= start)
        if self.sample is not None:
            drawn = heapq.nsmallest(self.sample, items, key=self._place)
            return sorted(drawn, key=lambda item: item.name)
        return items

    def _place(self, item: Item) -> str:
        return sha256_bytes(f"{self.seed}/{item.name}".encode())

    def row(self) -> dict[str, str | int | None]:
        """As plain JSON."""
        return {
            "since": self.since.isoformat() if self.since else None,
            "sample": self.sample,
            "seed": None if self.sample is None else self.seed,
        }
