"""Speed of a deep audit against `md5sum` and `sha256sum` over the same objects."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.core.errors import InputError
from components.lineage.deep_check import Job, hash_all
from components.workspace.remote import FOLDER, Objects

_ROUNDS = 3


def bench_audit(count: int, size: int, folder: Path) -> dict[str, Any]:
    """Make objects and hash them in turns: the audit, `md5sum`, `sha256sum` on one processor each.

    Args:
        count: objects.
        size: mean bytes of one.
        folder: an empty one on the disk to be measured.

    Returns:
        Best seconds of three rounds, ratios (above 1: the audit is faster), peak memory in bytes.

    Raises:
        InputError: `md5sum` and `sha256sum` are not installed.
    """
    if not (shutil.which("md5sum") and shutil.which("sha256sum")):
        raise InputError("md5sum and sha256sum are not installed", hint="install coreutils")
    jobs = _make(count, size, folder)
    both = [Job(job.md5, job.sha256, job.path) for job in jobs]
    plain = [Job(job.md5, None, job.path) for job in jobs]
    objects, notes = Objects.of_folder(folder), folder / "notes"
    names = [objects.path(job.md5) for job in jobs]
    runs: dict[str, Callable[[], Any]] = {
        "md5": lambda: hash_all(objects, plain, notes),
        "md5_and_sha256": lambda: hash_all(objects, both, notes),
        "md5sum": lambda: _program("md5sum", names),
        "sha256sum": lambda: _program("sha256sum", names),
    }
    seconds = {name: float("inf") for name in runs}
    for _ in range(_ROUNDS):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return {
        "objects": count,
        "bytes": sum(os.path.getsize(name) for name in names),
        "seconds": seconds,
        "md5_against_md5sum": seconds["md5sum"] / seconds["md5"],
        "both_against_md5sum_and_sha256sum": (seconds["md5sum"] + seconds["sha256sum"])
        / seconds["md5_and_sha256"],
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _make(count: int, size: int, folder: Path) -> list[Job]:
    """Objects of random bytes and sizes, laid out like a DVC remote."""
    draw, jobs = random.Random(7), []  # noqa: S311
    for number in range(count):
        data = draw.randbytes(draw.randrange(size // 2, size * 3 // 2 + 1))
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        path = folder / FOLDER / md5[:2] / md5[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        jobs.append(Job(md5, hashlib.sha256(data).hexdigest(), str(number)))
    return jobs


def _program(name: str, paths: list[str]) -> None:
    """One of coreutils over all files, started as seldom as its command line allows."""
    subprocess.run(
        ("xargs", name), input="\n".join(paths).encode(), stdout=subprocess.DEVNULL, check=True
    )
