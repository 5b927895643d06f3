"""Files: hashing, atomic writes, paths that cannot leave their root."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from json.encoder import encode_basestring as _quoted
from pathlib import Path
from typing import Any, BinaryIO

from components.core.errors import CheckError, InputError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SHORT = " requested and "  # numpy, whose error has no number: `9 requested and 7 written`


def sha256_bytes(data: bytes) -> str:
    """SHA-256 of `data` as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes as 64 hex digits, read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def hashed(path: str | Path) -> Iterator[tuple[BinaryIO, str]]:
    """A file of weights, open at its beginning, and its SHA-256; raises InputError if unreadable.

    The bytes read are those that were hashed.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise InputError(f"cannot read the weights ({error.strerror})", where=str(path)) from None
    with file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        yield file, digest


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes.

    Raises ValueError for NaN and infinity, which JSON cannot express.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def sha256_json(value: Any) -> str:
    """SHA-256 of `value` as canonical JSON."""
    return sha256_bytes(canonical_json(value))


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; rename it onto `path` when the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix is kept so that writers which choose a format by it still do; the stem is not,
    # which may be as long as a name can be.
    temporary = path.with_name(f".{secrets.token_hex(8)}{path.suffix}")
    # Made by hand, not by tempfile, so that it has the rights of any other file of this user.
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        with _room(path):
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def _room(path: Path) -> Iterator[None]:
    """An error for lack of room, in the block, names this path."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL or _SHORT in str(error):
            number = error.errno or errno.ENOSPC
            raise OSError(number, os.strerror(number), str(path)) from error
        raise


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """Write indented JSON atomically; raises ValueError for NaN or infinity."""
    write_text(path, _indented(value, "\n") + "\n")


def _indented(value: Any, line: str) -> str:
    """What `json.dumps` with an indent of 2 gives, in a third of the time."""
    inner = line + "  "
    if isinstance(value, dict) and value and all(type(key) is str for key in value):
        rows = [f"{_quoted(key)}: {_indented(one, inner)}" for key, one in value.items()]
        return f"{{{inner}{f',{inner}'.join(rows)}{line}}}"
    if isinstance(value, list | tuple) and value:
        return f"[{inner}{f',{inner}'.join([_indented(one, inner) for one in value])}{line}]"
    if type(value) is str:
        return _quoted(value)
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return repr(value)
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return text.replace("\n", line)


def read_json(path: str | Path) -> Any:
    """Read JSON; raises InputError naming the file when it is missing or malformed."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError("no such file", where=str(path)) from None
    except IsADirectoryError:
        raise InputError("a folder, not a file", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise InputError(f"not valid JSON ({error})", where=str(path)) from None
    return parse_json(text, str(path))


def parse_json(text: str, where: str) -> Any:
    """Parse JSON; raises InputError with line and column when it is malformed."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        early = error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string")
        what = "the file ends early" if early else error.msg
        place = f"line {error.lineno}, column {error.colno}"
        raise InputError(f"not valid JSON: {what} ({place})", where=where) from None
    except (ValueError, RecursionError) as error:  # also a number of too many digits
        raise InputError(f"not valid JSON ({error})", where=where) from None


@contextmanager
def alone(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a lock file, which is removed in the end: another process or thread has to wait.

    Its folder must exist; `waiting` is called where it has to wait.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        holding = lock.acquire(blocking=False)
    except Timeout:
        waiting()
        holding = lock.acquire()
    with holding:
        try:
            yield
        finally:
            path.unlink()  # while it is held: filelock sees that it is gone, and makes a new one


@contextmanager
def held(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock file, which stays; raises CheckError saying `busy` when another holds it."""
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        holding = FileLock(path).acquire(blocking=False)
    except Timeout:
        raise CheckError(busy, where=str(path), hint="wait for it to end") from None
    with holding:
        yield


def check_folder(path: str | Path) -> Path:
    """Check, before the work, a folder for its results; raises InputError if it is unusable."""
    path = Path(path)
    missing = [place for place in (path, *path.parents) if not os.path.lexists(place)]
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        what = f"cannot be written into ({error.strerror})"
        raise InputError(what, where=str(path), hint="choose another place") from None
    finally:
        for place in missing:  # a run that is refused leaves none
            with suppress(OSError):
                place.rmdir()
    return path


def check_place(path: str | Path) -> Path:
    """A file that can be written, its folder checked as by `check_folder`."""
    path = Path(path)
    if os.path.isdir(path):  # `Path.is_dir` raises for a name that is too long
        raise InputError("is a folder", where=str(path), hint="name a file to write")
    check_folder(path.parent)
    return path


def printable(name: str) -> str:
    """A file's name or path as valid UTF-8; bytes that are not are written `\\udcNN`."""
    return name.encode("utf-8", "backslashreplace").decode()


def inside(root: str | Path, relative: str) -> Path:
    """Join `relative` to `root`, refusing every path that leaves it (also through links)."""
    base = Path(root).resolve()
    try:
        joined = (base / relative).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"not a path: {relative!r} ({error})", where=str(root)) from None
    if os.path.isabs(relative) or not joined.is_relative_to(base):
        raise InputError(
            f"path {relative!r} leaves this folder",
            where=str(root),
            hint="use paths relative to it, without '..'",
        )
    return base / relative


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Hard-link a file where the file system allows it, else copy it; atomic either way."""
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{secrets.token_hex(8)}")
    try:
        try:
            os.link(source, temporary)
        except OSError:
            with _room(target):
                shutil.copyfile(source, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
