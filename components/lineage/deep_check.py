"""The deep part of an audit: every object of the remote fetched and hashed, in parallel.

Objects are hashed in blocks, so memory does not grow with their size. Files of a few kilobytes are
hashed one by one: there threads wait for each other longer than they hash. What has been hashed is
noted under the state folder as the work goes on; an audit that was killed resumes from there
within a day of its start, and a finished one leaves no notes.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from components.core.files import sha256_json
from components.core.paths import AUDITS, state_dir
from components.core.progress import Progress
from components.lineage.checks import data
from components.lineage.evidence import Evidence
from components.lineage.verdict import Finding, broken, verified
from components.workspace.remote import MissingError, Objects

_BLOCK = 1 << 20
_CHUNK = 1024  # objects between two notes
_SMALL = 1 << 16  # bytes of a file that is not worth a thread
_FRESH = 24 * 3600  # seconds from their start in which notes are used
_own = threading.local()  # a buffer for each thread


@dataclass(frozen=True)
class DeepCheck:
    """Findings of wrong objects, or one verified; objects and bytes hashed by this call."""

    findings: list[Finding] = field(default_factory=list)
    objects: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Job:
    """One object: its MD5, the SHA-256 that the manifest gives of it, and its path."""

    md5: str
    sha256: str | None
    path: str

    @property
    def note(self) -> str:
        """Its name in the notes."""
        return f"{self.md5} {self.sha256}" if self.sha256 else self.md5


class Hashed(NamedTuple):
    """The hashes of an object; `md5` is None where it is missing."""

    job: Job
    md5: str | None
    sha256: str | None
    size: int

    @property
    def good(self) -> bool:
        """Whether both hashes are the expected ones."""
        same = self.md5 == self.job.md5.removesuffix(".dir")
        return same and self.job.sha256 in (None, self.sha256)


def deep_check(evidence: Evidence, progress: Progress | None = None) -> DeepCheck:
    """Hash every object that the version's stages read or wrote; nothing without a remote.

    Raises:
        OSError: the remote does not answer.
    """
    if evidence.objects is None:
        return DeepCheck()
    with TemporaryDirectory(prefix="iml-audit-") as scratch:
        notes = _notes(evidence, Path(scratch))
        return hash_all(evidence.objects, _jobs(evidence), notes, progress)


def _jobs(evidence: Evidence) -> list[Job]:
    """One for each object, or for each SHA-256 that the manifest gives of the same MD5."""
    expected = data.photo_hashes(evidence)
    found: dict[str, Job] = {}
    for path, md5 in data.contents(evidence):
        job = Job(md5, expected.get(path), path)
        found.setdefault(job.note, job)
    with_sha256 = {job.md5 for job in found.values() if job.sha256}
    return [job for job in found.values() if job.sha256 or job.md5 not in with_sha256]


def _notes(evidence: Evidence, scratch: Path) -> Path:
    """Their file: below the state folder, or in `scratch` where that cannot be written."""
    where = evidence.objects.name if evidence.objects else ""
    key, folder = sha256_json([where, evidence.facts["record_sha256"]]), state_dir() / AUDITS
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return (folder if os.access(folder, os.W_OK | os.X_OK) else scratch) / f"{key}.done"


def hash_all(
    objects: Objects, jobs: Sequence[Job], notes: Path, progress: Progress | None = None
) -> DeepCheck:
    """Hash the objects of some jobs in threads; `notes` is the file where good ones are noted."""
    done = _noted(notes)
    left = [job for job in jobs if job.note not in done]
    before = len(jobs) - len(left)
    bad: list[Finding] = []
    count, size, lost = 0, 0, 0
    # As many threads as processors for a folder; waiting for a server costs none.
    near = objects.local and not objects.imports()
    threads = len(os.sched_getaffinity(0)) if near else 16
    with open(notes, "a", encoding="ascii") as file, ThreadPoolExecutor(threads) as pool:
        if not file.tell():
            print(int(time.time()), file=file)
        for start in range(0, len(left), _CHUNK):
            hashed = _hash_chunk(objects, pool, left[start : start + _CHUNK])
            # Missing objects are reported by the check of `data`.
            wrong = [result for result in hashed if result.md5 and not result.good]
            bad += [_finding(result, objects.place(result.job.md5)) for result in wrong]
            file.writelines(f"{result.job.note}\n" for result in hashed if result.good)
            file.flush()
            count, size = count + len(hashed), size + sum(result.size for result in hashed)
            lost += sum(result.md5 is None for result in hashed)
            if progress:
                progress(before + count, len(jobs))
    notes.unlink(missing_ok=True)  # two audits of one version share them
    what = f"{before + count - lost} objects of the remote hash to their names"
    return DeepCheck(bad or [verified(what, objects.name)], count - lost, size)


def _noted(notes: Path) -> set[str]:
    """Good objects of an audit that was started within a day, and killed.

    The first line is the time of its start; every audit that resumes from there keeps it.
    """
    try:
        # The last line may be cut off: then it names nothing.
        start, *done = notes.read_text(encoding="ascii").splitlines()
        if 0 <= time.time() - int(start) <= _FRESH:
            return set(done)
    except FileNotFoundError:
        return set()
    except ValueError:  # no text, no line or no time
        pass
    notes.unlink(missing_ok=True)
    return set()


def _hash_chunk(objects: Objects, pool: Executor, jobs: Sequence[Job]) -> list[Hashed]:
    """In the order of the jobs; small files at once, the others in threads."""
    found: list[Hashed | Future[Hashed]] = [
        _hash(objects, job)
        if objects.local and _is_small(objects, job)
        else pool.submit(_hash, objects, job)
        for job in jobs
    ]
    return [result if isinstance(result, Hashed) else result.result() for result in found]


def _is_small(objects: Objects, job: Job) -> bool:
    try:
        return os.stat(objects.path(job.md5)).st_size <= _SMALL
    except (OSError, MissingError):
        return False


def _hash(objects: Objects, job: Job) -> Hashed:
    """One object, read in blocks."""
    if not hasattr(_own, "buffer"):
        _own.buffer = memoryview(bytearray(_BLOCK))
    md5 = hashlib.md5(usedforsecurity=False)
    sha256 = hashlib.sha256() if job.sha256 else None
    size, buffer = 0, _own.buffer
    try:
        with objects.open(job.md5) as file:
            while count := file.readinto(buffer):
                md5.update(buffer[:count])
                if sha256:
                    sha256.update(buffer[:count])
                size += count
    except MissingError:
        return Hashed(job, None, None, 0)
    return Hashed(job, md5.hexdigest(), sha256.hexdigest() if sha256 else None, size)


def _finding(result: Hashed, place: str) -> Finding:
    job = result.job
    if result.md5 != job.md5.removesuffix(".dir"):
        what = f"the object {job.md5} in {place} was changed"
        return broken(what, job.path, job.md5, result.md5)
    what = "the photo is not the one that the manifest names (SHA-256)"
    return broken(what, job.path, job.sha256, result.sha256)
