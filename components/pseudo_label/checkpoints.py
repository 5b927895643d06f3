"""Published weights of teachers: where they are, what they must hash to, and how they are fetched.

Fetched files are kept in the state folder under `weights/`. A mirror is named by the environment,
because an address cannot change a result: the SHA-256 decides. A download is resumable, bounded in
size and time, and checked before it gets its name.
"""

from __future__ import annotations

import http.client
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from components.core.errors import InputError, UnavailableError
from components.core.files import alone, sha256_file
from components.core.files import hashed as opened
from components.core.paths import WEIGHTS, state_dir
from components.core.progress import Progress

NO_WEIGHTS = (
    "set pseudo_label.teacher: grabcut, which needs no weights, or pseudo_label.checkpoint to a "
    "local file, in params.yaml"
)
AGAIN = "run the same command again to continue"
_BLOCK = 1 << 18
_SLOWEST = 1024  # bytes a second below which a server counts as gone
_ATTEMPTS = 3  # in a row that bring next to nothing

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Weights:
    """A published weights file.

    Attributes:
        file: its name.
        size: in bytes.
        sha256: of its bytes.
        address: base URL; empty for weights that are part of the project.
        mirror: environment variable that names another base URL.
        folder: where it is in the project; None for what is downloaded.
    """

    file: str
    size: int
    sha256: str
    address: str = ""
    mirror: str = ""
    folder: Path | None = None

    @property
    def url(self) -> str:
        """Its address, at the mirror where one is set."""
        return f"{(os.environ.get(self.mirror) or self.address).rstrip('/')}/{self.file}"

    @property
    def path(self) -> Path:
        """Where it is, or will be once downloaded."""
        return (self.folder or state_dir() / WEIGHTS) / self.file

    def on_disk(self) -> bool:
        """Whether it is there in full size (not hashed here)."""
        return self.path.is_file() and self.path.stat().st_size == self.size

    def fetch(self, progress: Progress | None = None) -> Path:
        """Download it unless it is there; its verified path.

        Raises InputError for an unreachable host or a wrong hash; the next call continues an
        interrupted download.
        """
        if self.folder or self.path.exists():
            if not self.on_disk() or sha256_file(self.path) != self.sha256:
                raise self.refusal(self.path)
            return self.path
        try:
            download(self.url, self.path, size=self.size, sha256=self.sha256, progress=progress)
        except UnavailableError as error:
            raise InputError(
                f"cannot fetch {self.file} ({error.what})",
                where=error.where,
                hint=f"{AGAIN}, or {NO_WEIGHTS}",
            ) from None
        return self.path

    def fetch_with_bar(self) -> Path:
        """`fetch`, shown on stderr."""
        return with_bar(self.file, self.fetch)

    def refusal(self, path: Path) -> InputError:
        """The complaint about a file that has not this one's bytes."""
        fetched = "delete it and run `iml teacher fetch`, or rename it if it is meant to differ"
        return InputError(
            f"is not the published {self.file} (its SHA-256 differs)",
            where=str(path),
            hint=fetched if self.address else "install the project again",
        )


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights to load, and the published one that it must be; None: the user's own."""

    path: Path
    published: Weights | None = None

    @contextmanager
    def open(self) -> Iterator[tuple[BinaryIO, str]]:
        """The file and its SHA-256; InputError, before a byte is used, where it is another's."""
        with opened(self.path) as (file, sha256):
            if self.published and sha256 != self.published.sha256:
                raise self.published.refusal(self.path)
            yield file, sha256


def with_bar(label: str, fetch: Callable[[Progress], Path]) -> Path:
    """What a function that reports its progress returns, with a bar on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
    from rich.progress import TransferSpeedColumn as Speed

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), Speed())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=None, visible=False)
        return fetch(
            lambda done, total: bar.update(task, completed=done, total=total, visible=True)
        )


def download(
    url: str,
    target: Path,
    *,
    size: int,
    sha256: str,
    hashed: Callable[[Path], str] = sha256_file,
    token: str = "",
    timeout: float = 30.0,
    progress: Progress | None = None,
) -> None:
    """Download a file over http or https, continuing from `target.part` after an interruption.

    While another process downloads it, wait; where that one fails, continue from its part.

    Args:
        url: of the file.
        target: final path; appears only once size and hash are right.
        size: bytes expected; no more are ever written.
        sha256: of the whole file.
        hashed: what makes that hash of a file, where it is not its SHA-256.
        token: that the server asks for; other servers that it refers to do not see it.
        timeout: seconds without a connection, or with next to nothing received.
        progress: called with (bytes so far, size).

    Raises:
        UnavailableError: no server, an HTTP error, or cut off again and again; what has arrived
            stays for the next call.
        InputError: wrong size or hash (nothing is kept).
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise InputError("only http and https addresses are fetched", where=url)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    lock = target.with_name(f".{target.name}.lock")
    waiting = "%s: waiting for another process that downloads it"
    with alone(lock, waiting=lambda: _log.warning(waiting, target)):
        if target.exists():  # the other process brought it
            return
        with open(part, "ab") as file:
            _Transfer(url, file, size, timeout, progress, token).run()
        if hashed(part) != sha256:
            part.unlink()
            raise InputError(
                f"its hash is not {sha256[:12]}…, nothing was kept",
                where=url,
                hint="fetch again, or from another mirror",
            )
        part.replace(target)


@dataclass(frozen=True)
class _Transfer:
    """Brings `url` into an open file; see `download`."""

    url: str
    file: BinaryIO
    size: int
    timeout: float
    progress: Progress | None
    token: str

    def run(self) -> None:
        """Append until `size` bytes are there, reconnecting while that brings something."""
        failures = 0
        if self.file.tell() > self.size:
            self.file.truncate(0)
        while (have := self.file.seek(0, 2)) < self.size:
            try:
                self._receive()
                reason = "the connection was cut"
            except urllib.error.HTTPError as error:
                raise UnavailableError(
                    f"the server answers {error.code} {error.reason}", where=self.url
                ) from None
            except (urllib.error.URLError, http.client.HTTPException, ConnectionError) as error:
                reason = str(getattr(error, "reason", "") or error or type(error).__name__)
            except TimeoutError as error:
                reason = str(error) or "timed out"
            gained = self.file.seek(0, 2) - have
            failures = 0 if gained > _SLOWEST * self.timeout else failures + 1
            if failures == _ATTEMPTS:
                reason += f" after {have + gained} of {self.size} bytes"
                raise UnavailableError(reason, where=self.url)
            if failures:
                time.sleep(0.2 * failures)

    def _receive(self) -> None:
        """One connection: append what it gives."""
        have = self.file.tell()
        request = urllib.request.Request(self.url)  # noqa: S310 - the scheme was checked
        if have:
            request.add_header("Range", f"bytes={have}-")
        if self.token:
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request, timeout=self.timeout) as answer:  # noqa: S310
            have = self._agree(answer, have)
            since, received = time.monotonic(), 0
            while block := answer.read1(_BLOCK):
                have, received = have + len(block), received + len(block)
                if have > self.size:
                    self.file.truncate(0)
                    raise InputError(
                        f"the server sends more than {self.size} bytes", where=self.url
                    )
                self.file.write(block)
                self.file.flush()
                if self.progress:
                    self.progress(have, self.size)
                if (waited := time.monotonic() - since) > self.timeout:
                    if received < _SLOWEST * waited:
                        raise TimeoutError(f"too slow ({received / waited:.0f} bytes a second)")
                    since, received = time.monotonic(), 0

    def _agree(self, answer: http.client.HTTPResponse, have: int) -> int:
        """Check the announced size and where the answer starts; the number of bytes to keep."""
        if answer.status == 206:
            stated = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
            if not stated or int(stated[1]) != have:
                raise InputError(
                    "the server answers with another range than the one requested", where=self.url
                )
            total = int(stated[2])
        else:  # the server does not know ranges: from the beginning
            self.file.truncate(0)
            have = 0
            total = int(answer.headers.get("Content-Length") or self.size)
        if total != self.size:
            self.file.truncate(0)
            raise InputError(f"the server has {total} bytes, not {self.size}", where=self.url)
        return have
