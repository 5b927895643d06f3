"""git, DVC and stages as processes: their output or one clear line, and whole groups ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import chain
from pathlib import Path

import psutil

from components.core.errors import CheckError, ImlError, InputError, UnavailableError
from components.core.files import read_json

_NETWORK = {"clone", "fetch", "pull", "push"}  # of git and of DVC
# Answers, of a server or of DVC's configuration, that would be the same again.
_REFUSED = re.compile(
    r"\[rejected\]|hook declined|Permission.* denied|Authentication failed|Forbidden|AccessDenied|"
    r"InvalidAccessKeyId|SignatureDoesNotMatch|NoSuchBucket|config file error|no remote "
)


def environment() -> dict[str, str]:
    """Our environment, with this interpreter's commands first and telemetry off."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    # Unbuffered, or a stage's progress lines would reach the flow's log only at its end.
    return {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1", "PYTHONUNBUFFERED": "1"}


def call(*command: str, folder: Path | None = None) -> str:
    """Run a short command and return its stdout.

    Raises:
        InputError: it is not installed, or the server that it talks to refused.
        UnavailableError: it talks to a server and failed for another reason.
        CheckError: it failed; its last line, or the last that it marks as an error.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment(), cwd=folder, check=False
        )
    except FileNotFoundError:
        raise InputError(
            f"{command[0]} is not installed", hint=f"install {command[0]} and try again"
        ) from None
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["no message"]
        # The last line of DVC or git may be an offer of help.
        marked = ("ERROR: ", "! [rejected]", "! [remote rejected]")
        lines = [line for line in lines if line.strip().startswith(marked)] or lines
        kind: type[ImlError] = CheckError
        if _NETWORK & set(command[1:5]):
            kind = InputError if _REFUSED.search(done.stderr) else UnavailableError
        raise kind(lines[-1].removeprefix("ERROR: "), where=" ".join(command[:3]))
    return done.stdout


def dvc(*arguments: str) -> str:
    """Run DVC and return its stdout; raises as `call` does.

    Never with --quiet, where it fails without a reason.
    """
    try:
        return call(sys.executable, "-m", "dvc", *arguments)
    except (CheckError, InputError, UnavailableError) as error:
        raise type(error)(error.what, where=f"dvc {arguments[0]}") from None


def drop_stale_locks() -> None:
    """Remove DVC's list of locked paths, unless a DVC process that it names is at work.

    DVC looks for their numbers alone. One that a process of another container had, or that a dead
    process has which nobody has collected, would block it forever; so would a list cut off.
    """
    path = Path(".dvc/tmp/rwlock")
    with suppress(InputError, AttributeError, KeyError, TypeError):
        locks = read_json(path)
        readers = chain.from_iterable(locks.get("read", {}).values())
        if any(_is_dvc(entry["pid"]) for entry in (*readers, *locks.get("write", {}).values())):
            return
    path.unlink(missing_ok=True)


def _is_dvc(pid: int) -> bool:
    try:
        return any(Path(word).name == "dvc" for word in psutil.Process(pid).cmdline())
    except psutil.Error:
        return False


def started(pid: int) -> str | None:
    """Boot and start time of a process, which no later one with its number has; None for none."""
    try:
        # Field 22, in ticks since the boot; the name before it, in brackets, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return f"{_boot()} {fields[19]}"


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def same_group(pid: int, start: str) -> bool:
    """Whether a process group can only be the one whose leader had this start, as of `started`."""
    found = started(pid)
    # Where only the leader is dead, its number is not reused while its group lives, until a boot.
    return start.startswith(_boot()) if found is None else found == start


def end_group(pid: int, *, patience: float = 3.0) -> None:
    """End a process group: SIGTERM, then SIGKILL after `patience` seconds."""
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 3.0)):
        with suppress(ProcessLookupError):
            os.killpg(pid, number)
        limit = time.monotonic() + seconds
        while time.monotonic() < limit and _group_alive(pid):
            time.sleep(0.05)


def _group_alive(pid: int) -> bool:
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == pid and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False
