"""The inbox: batches of new photos below an S3 prefix, each added to the data set once.

A batch is everything below `PREFIX/NAME/`, in any readable format. What is uploaded last says that
it is complete: an object called `complete`, or, for photos with a COCO index, the index itself as
`annotations.json`; then only the photos that it names are looked at. `inbox.json` records the
outcome of each batch with the hash of its keys and ETags, so that a batch is added again only if it
has changed.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from components.core.errors import CheckError, InputError, UnavailableError
from components.core.files import inside, read_json, sha256_json, write_json
from components.core.paths import INBOX, state_dir

RECORD, INDEX, COMPLETE = "inbox.json", "annotations.json", "complete"
# Answers that would be the same again; those of an object that has just changed would not.
_REFUSED = ("AccessDenied", "InvalidAccessKeyId", "NoSuchBucket", "SignatureDoesNotMatch")
_CONFIG = Config(connect_timeout=5, read_timeout=60, retries={"max_attempts": 5})


@dataclass(frozen=True)
class Batch:
    """A complete batch: its objects as (key below the batch, ETag, bytes), sorted."""

    name: str
    prefix: str
    objects: tuple[tuple[str, str, int], ...]

    @property
    def source(self) -> str:
        """What is read of it, below the folder that it is fetched into: all, or its index."""
        return "." if any(key == COMPLETE for key, _, _ in self.objects) else INDEX

    @property
    def fingerprint(self) -> str:
        """Hash of keys and ETags."""
        return sha256_json([[key, etag] for key, etag, _ in self.objects])


@dataclass(frozen=True)
class Taken:
    """The outcome of a batch."""

    fingerprint: str  # of the batch as it was
    added: int  # photos
    known: int  # photos that the data set already had
    rejected: list[str]  # "photo: reason" of those left out
    refused: str | None  # why the batch as a whole was not added


class Inbox:
    """The batches at an address `s3://bucket/prefix`; the client's settings are AWS_*.

    Args:
        address: where the batches are.
        named_by: what names the address, for errors.
    """

    def __init__(self, address: str, named_by: str = "IML_INBOX") -> None:
        parts = urlsplit(address)
        if parts.scheme != "s3" or not parts.netloc:
            what = f"{address!r} is not an inbox address"
            raise InputError(what, where=named_by, hint="use s3://bucket/prefix")
        self.address, self._bucket = address, parts.netloc
        path = parts.path.strip("/")
        self._prefix = f"{path}/" if path else ""
        self._client = boto3.client("s3", config=_CONFIG)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError) as error:
            answer = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
            if answer in _REFUSED:
                raise InputError(f"the inbox is refused ({error})", where=self.address) from None
            what = f"the inbox does not answer ({error})"
            raise UnavailableError(what, where=self.address) from None

    def batches(self) -> list[Batch]:
        """Every complete batch, by name; raises UnavailableError, or InputError as an answer."""
        found: dict[str, list[tuple[str, str, int]]] = {}
        with self._answering():
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix):
                for row in page.get("Contents", []):
                    name, slash, key = row["Key"][len(self._prefix) :].partition("/")
                    if slash and key and not key.endswith("/"):
                        found.setdefault(name, []).append((key, row["ETag"], row["Size"]))
        return [
            Batch(name, f"{self._prefix}{name}/", tuple(sorted(objects)))
            for name, objects in sorted(found.items())
            if any(key in (INDEX, COMPLETE) for key, _, _ in objects)
        ]

    def waiting(self) -> list[Batch]:
        """The complete batches that are new or have changed since `inbox.json` recorded them."""
        known = _record()
        return [
            batch
            for batch in self.batches()
            if known.get(batch.name, {}).get("fingerprint") != batch.fingerprint
        ]

    def fetch(self, batch: Batch, folder: Path) -> None:
        """Copy a batch into a folder, each object exactly as it was listed.

        Raises:
            InputError: a key leaves the folder, or cannot be a file's name.
            UnavailableError: an object has changed since, or the store does not answer.
            CheckError: an object arrived incomplete.
        """
        for key, etag, size in batch.objects:
            if key == COMPLETE:
                continue
            target = inside(folder, key)
            with self._answering(), _new_file(target, key) as file:
                where = {"Bucket": self._bucket, "Key": batch.prefix + key}
                answer = self._client.get_object(**where, IfMatch=etag)
                shutil.copyfileobj(answer["Body"], file)
            if target.stat().st_size != size:
                raise CheckError("arrived incomplete", where=f"{self.address}: {batch.name}/{key}")

    def send(self, name: str, folder: Path) -> None:
        """Upload a folder as a new batch, which is complete with its last object.

        Raises:
            InputError: the store refuses it.
            UnavailableError: the store does not answer; the same call again completes the batch.
        """
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        with self._answering():
            for path in files:
                key = f"{name}/{path.relative_to(folder).as_posix()}"
                with path.open("rb") as file:
                    self._put(key, file)
            self._put(f"{name}/{COMPLETE}", b"")

    def _put(self, key: str, body: BinaryIO | bytes) -> None:
        self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=body)


def _new_file(path: Path, key: str) -> BinaryIO:
    """A new file, its folders made; raises InputError for a key that cannot be a file name here."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "xb")
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
            raise
        what = f"key {key[:80]!r} cannot be a file name here ({error.strerror})"
        raise InputError(what) from None


def take(
    inbox: Inbox, batches: Sequence[Batch], dataset: Path, max_megapixels: float
) -> dict[str, Taken]:
    """Add batches (from `Inbox.waiting`) to a data set's folder; photos may be rejected.

    Returns the outcome of each by its name, of refused ones too, as recorded in `inbox.json`.

    Raises:
        InputError: no such data set.
        UnavailableError, CheckError: as `Inbox.fetch`.
    """
    from components.data import dataset as datasets

    datasets.load(dataset)
    new = {batch.name: _take(inbox, batch, dataset, max_megapixels) for batch in batches}
    write_json(RECORD, {**_record(), **{name: asdict(row) for name, row in new.items()}})
    return new


def _record() -> dict[str, Any]:
    return read_json(RECORD) if Path(RECORD).exists() else {}


def _take(inbox: Inbox, batch: Batch, dataset: Path, max_megapixels: float) -> Taken:
    from components.ingest.merging import merge

    folder = state_dir() / INBOX
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        inbox.fetch(batch, folder)
        made = merge(folder / batch.source, dataset, max_megapixels=max_megapixels)
    except InputError as error:
        name = error.where.removeprefix(f"{folder}/")  # a file of the batch, or something else
        reason = error.what if name == error.where else f"{name}: {error.what}"
        return Taken(batch.fingerprint, 0, 0, [], reason)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    rejected = [f"{photo}: {reason}" for photo, reason in made.rejected]
    return Taken(batch.fingerprint, len(made.added), made.known, rejected, None)
