"""One file over HTTP: resumable, bounded in size and time, checked before it gets its name."""

from __future__ import annotations

import http.client
import logging
import re
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from components.core.errors import InputError, UnavailableError
from components.core.files import alone, sha256_file
from components.core.progress import Progress

_BLOCK = 1 << 18
_SLOWEST = 1024  # bytes a second below which a server counts as gone
_ATTEMPTS = 3  # in a row that bring next to nothing

_log = logging.getLogger(__name__)


def download(
    url: str,
    target: Path,
    *,
    size: int,
    sha256: str,
    timeout: float = 30.0,
    progress: Progress | None = None,
) -> None:
    """Bring `url` to `target`, going on from `target.part` where an earlier call was cut off.

    While another process brings it, wait; where that one fails, go on from what it has left.

    Args:
        url: http or https.
        target: final path; appears only once size and hash are right.
        size: bytes expected; no more are ever written.
        sha256: of the whole file.
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
    told = "%s: waiting for another process that downloads it"
    with alone(lock, waiting=lambda: _log.warning(told, target)):
        if target.exists():  # brought by the process waited for
            return
        with open(part, "ab") as file:
            _fill(url, file, size, timeout, progress)
        if sha256_file(part) != sha256:
            part.unlink()
            raise InputError(
                f"SHA-256 is not {sha256[:12]}…, nothing was kept",
                where=url,
                hint="fetch again, or from another mirror",
            )
        part.replace(target)


def _fill(
    url: str,
    file: BinaryIO,
    size: int,
    timeout: float,
    progress: Progress | None,
) -> None:
    """Append until `size` bytes are there, reconnecting while that brings something."""
    failures = 0
    if file.tell() > size:
        file.truncate(0)
    while (have := file.seek(0, 2)) < size:
        try:
            _receive(url, file, size, timeout, progress)
            reason = "the connection was cut"
        except urllib.error.HTTPError as error:
            raise UnavailableError(
                f"the server answers {error.code} {error.reason}", where=url
            ) from None
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError) as error:
            reason = str(getattr(error, "reason", "") or error or type(error).__name__)
        except TimeoutError as error:
            reason = str(error) or "timed out"
        gained = file.seek(0, 2) - have
        failures = 0 if gained > _SLOWEST * timeout else failures + 1
        if failures == _ATTEMPTS:
            raise UnavailableError(f"{reason} after {have + gained} of {size} bytes", where=url)
        if failures:
            time.sleep(0.2 * failures)


def _receive(
    url: str,
    file: BinaryIO,
    size: int,
    timeout: float,
    progress: Progress | None,
) -> None:
    """One connection: append what it gives."""
    have = file.tell()
    request = urllib.request.Request(url)  # noqa: S310 - the scheme was checked
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
        have = _agree(answer, url, file, have, size)
        since, received = time.monotonic(), 0
        while block := answer.read1(_BLOCK):
            have, received = have + len(block), received + len(block)
            if have > size:
                file.truncate(0)
                raise InputError(f"the server sends more than {size} bytes", where=url)
            file.write(block)
            file.flush()
            if progress:
                progress(have, size)
            if (waited := time.monotonic() - since) > timeout:
                if received < _SLOWEST * waited:
                    raise TimeoutError(f"too slow ({received / waited:.0f} bytes a second)")
                since, received = time.monotonic(), 0


def _agree(answer: http.client.HTTPResponse, url: str, file: BinaryIO, have: int, size: int) -> int:
    """Check the announced size and where the answer starts; the number of bytes to keep."""
    if answer.status == 206:
        stated = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        if not stated or int(stated[1]) != have:
            raise InputError(
                "the server answers with another range than the one requested", where=url
            )
        total = int(stated[2])
    else:  # the server does not know ranges: from the beginning
        file.truncate(0)
        have = 0
        total = int(answer.headers.get("Content-Length") or size)
    if total != size:
        file.truncate(0)
        raise InputError(f"the server has {total} bytes, not {size}", where=url)
    return have
