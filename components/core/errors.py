"""The one exception tree, by cause, and how an expected failure reaches a person.

    ImlError              expected: one line (what, where, hint), never a traceback
      InputError          bad input or wrong use                        exit code 2
      UnavailableError    a service does not answer; worth a retry      exit code 2
      CheckError          a gate or check said no                       exit code 1
        EvidenceError     what was recorded is missing or has changed   exit code 1
      InterruptError      Ctrl-C                                        exit code 130

A package that is not installed is expected too: the line names the extra that brings it. Any
other exception is a bug and shows its traceback.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec


class ImlError(Exception):
    """An expected failure: printed as one line, never as a traceback."""

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.what, self.where, self.hint = what, where, hint
        super().__init__(self.line())

    def line(self) -> str:
        """Where, what and how to fix it, on one line."""
        text = f"{self.where}: {self.what}" if self.where else self.what
        text = f"{text}; {self.hint}" if self.hint else text
        return " ".join(text.split())


class CheckError(ImlError):
    """A gate, check or verification failed (exit code 1)."""


class EvidenceError(CheckError):
    """What a version, the ledger or the remote holds is missing, or not what was recorded."""


class InputError(ImlError):
    """Wrong use or bad input (exit code 2)."""

    exit_code = 2


class UnavailableError(ImlError):
    """A service does not answer; the only failure that flows retry (exit code 2)."""

    exit_code = 2


class InterruptError(ImlError):
    """A person pressed Ctrl-C (exit code 130, as shells have it)."""

    exit_code = 130


def brief(error: BaseException) -> str:
    """The beginning of a library's error message, on one line."""
    return " ".join(str(error).split())[:200]


_COPIED = re.compile(r"\[Errno (\d+)\] [^']*'[^']*' -> '([^']*)'")
_FULL = "free some space and run the same command again, finished work is kept"
_PLACE = "choose another path or change its permissions"
_PLACES = ("EACCES", "EPERM", "EROFS", "EEXIST", "ENOTDIR", "EISDIR", "ENAMETOOLONG")
_HINTS = {**dict.fromkeys(("ENOSPC", "EDQUOT", "EFBIG"), _FULL), **dict.fromkeys(_PLACES, _PLACE)}


# The extras that bring packages which the base does without; that of all others is `pipeline`.
_EXTRAS = {
    **dict.fromkeys(("fastapi", "starlette", "uvicorn", "prometheus_client"), "serve"),
    **dict.fromkeys(("multipart", "python_multipart"), "serve"),
    "c2pa": "report",
    "ray": "ray",
}
_SCORING = ("pandas", "pyarrow", "boto3", "botocore")


def _missing(package: str) -> InputError | None:
    """What to say of a package that cannot be imported; None where it is installed or ours."""
    if not package or package in ("components", "flows", "research") or find_spec(package):
        return None
    hint = f"pip install 'boxpromptiml[{_EXTRAS.get(package, 'pipeline')}]'"
    if package in _SCORING:
        hint += "; for `iml score` alone, [score] is enough"
    return InputError(f"this needs the package {package}, which is not installed", hint=hint)


def _expected(error: Exception) -> ImlError | None:
    """An expected failure as what to print, any other as None."""
    if isinstance(error, ImlError):
        return error
    if isinstance(error, ModuleNotFoundError):
        return _missing((error.name or "").partition(".")[0])
    if isinstance(error, OSError):
        # Copying a folder gives the first file's as text alone.
        copied = _COPIED.search(str(error)) if isinstance(error, shutil.Error) else None
        number = int(copied[1]) if copied else error.errno or 0
        if hint := _HINTS.get(errno.errorcode.get(number, "")):
            # Of a copy, the second is where it was written to.
            where = copied[2] if copied else str(error.filename2 or error.filename or "")
            return InputError(os.strerror(number), where=where, hint=hint)
    return None


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Turn an expected failure inside the block into one line on stderr and its exit code."""
    try:
        yield
    except Exception as error:
        if (expected := _expected(error)) is None:
            raise
        print(f"error: {expected.line()}", file=sys.stderr)
        raise SystemExit(expected.exit_code) from error
