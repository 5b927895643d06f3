"""Where photos to score come from: a folder, or an S3 prefix (`s3://bucket/prefix`).

S3's address and keys are boto3's own settings (`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, ...).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from components.core import images
from components.core.errors import InputError, UnavailableError
from components.core.files import printable

SCHEME = "s3://"
_MOST_BYTES = 256 * 2**20  # of an object, which is read into memory
_SETTINGS = "check AWS_ENDPOINT_URL, AWS_PROFILE and the keys"


class Item(NamedTuple):
    """One photo."""

    name: str  # path below the source, with `/`, in UTF-8
    mark: str  # changes when its bytes may have: size and time of a file, ETag of an object
    size: int  # bytes
    place: str  # its file, or its key in the bucket


def walk(folder: Path, out: Path) -> Iterator[Path]:
    """Photos below a folder, by name, without hidden files and the results in `out`.

    Those of formats that are not read are among them, so that they are named as such.
    """
    results = out.resolve()
    for place, folders, files in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(
            name for name in folders if name[0] != "." and (here / name).resolve() != results
        )
        yield from (here / name for name in sorted(files) if images.looks_like_photo(name))


class _Folder:
    def __init__(self, folder: Path, out: Path) -> None:
        self._folder, self._out = folder, out

    def items(self) -> list[Item]:
        return sorted(map(self._item, walk(self._folder, self._out)), key=lambda item: item.name)

    def _item(self, path: Path) -> Item:
        name = printable(path.relative_to(self._folder).as_posix())
        try:
            about = path.stat()
        except OSError:  # gone, or a broken link: reading it gives the reason
            return Item(name, "", 0, str(path))
        return Item(name, f"{about.st_size}-{about.st_mtime_ns}", about.st_size, str(path))

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
        settings = Config(retries={"max_attempts": 5, "mode": "standard"})
        try:
            self._client: Any = boto3.client("s3", config=settings)
        except (BotoCoreError, ValueError) as error:
            raise InputError(f"S3 cannot be used ({error})", where=place, hint=_SETTINGS) from None

    def items(self) -> list[Item]:
        from botocore.exceptions import BotoCoreError, ClientError

        pages = self._client.get_paginator("list_objects_v2")
        found = []
        try:
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix):
                for entry in page.get("Contents", []):
                    key, mark = entry["Key"], entry["ETag"].strip('"')
                    name = key.removeprefix(self._prefix)
                    if images.looks_like_photo(name):
                        found.append(Item(name, mark, entry["Size"], key))
        except (BotoCoreError, ClientError) as error:
            what = f"cannot be listed ({error})"
            # An answer is a refusal; only silence is worth retrying.
            kind = InputError if isinstance(error, ClientError) else UnavailableError
            raise kind(what, where=self._place, hint=_SETTINGS) from None
        return sorted(found, key=lambda item: item.name)

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


# Photos that can be listed and read. `items` gives them by name, or raises InputError; `read` gives
# one's bytes from any thread, or raises `images.PhotoError` when it is gone or too large.
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
