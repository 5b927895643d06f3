"""Processes known by more than their number, and whole groups of them ended."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil


def birth(pid: int) -> str | None:
    """What tells a process from a later one of its number, whatever the clock does: boot, start.

    None where there is no such process.
    """
    try:
        # Field 22, in ticks since the boot; the name before it, in brackets, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return f"{_boot()} {fields[19]}"


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def same_group(pid: int, born: str) -> bool:
    """Whether a process group can only be the one whose leader was born then."""
    found = birth(pid)
    # Dead alone: nobody gets its number as long as its group lives, until the next boot.
    return born.startswith(_boot()) if found is None else found == born


def end_group(pid: int, *, patience: float = 3.0) -> None:
    """End a process group: politely, then, after `patience` seconds, for good."""
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
