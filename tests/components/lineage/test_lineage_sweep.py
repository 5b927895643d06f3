"""Hashing many objects: every bad one found, killed work resumed, memory bounded."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from components.lineage import sweep
from components.lineage.bench import bench_audit
from components.lineage.sweep import Job, hash_all
from components.lineage.verdict import Verdict
from components.workspace.remote import FOLDER, Objects

COUNT = 3000


def make(root: Path, count: int, size: int = 300) -> list[Job]:
    """Objects of random bytes, laid out like a DVC remote."""
    jobs = []
    draw = random.Random(5)
    for number in range(count):
        data = draw.randbytes(size)
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        path = root / FOLDER / md5[:2] / md5[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        jobs.append(
            Job(md5, hashlib.sha256(data).hexdigest() if number % 2 else None, f"p{number}")
        )
    return jobs


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Job]]:
    root = tmp_path_factory.mktemp("remote")
    return root, make(root, COUNT)


def test_all_good(remote: tuple[Path, list[Job]], tmp_path: Path) -> None:
    root, jobs = remote
    seen: list[tuple[int, int]] = []
    done = hash_all(Objects.of_folder(root), jobs, tmp_path / "n", lambda a, b: seen.append((a, b)))
    assert (done.objects, done.bytes) == (COUNT, COUNT * 300)
    assert [f.verdict for f in done.findings] == [Verdict.VERIFIED]
    assert seen[-1] == (COUNT, COUNT)
    assert not (tmp_path / "n").exists()


def test_bad_ones_are_named(tmp_path: Path) -> None:
    jobs = make(tmp_path, 50)
    place = tmp_path / FOLDER
    changed, lost, renamed = jobs[3], jobs[10], jobs[21]
    (place / changed.md5[:2] / changed.md5[2:]).write_bytes(b"other")
    (place / lost.md5[:2] / lost.md5[2:]).unlink()
    jobs[21] = Job(renamed.md5, "0" * 64, renamed.path)
    found = hash_all(Objects.of_folder(tmp_path), jobs, tmp_path / "n").findings
    assert [f.where for f in found] == ["p3", "p21"]
    assert all(f.verdict == Verdict.BROKEN for f in found)
    assert "SHA-256" in found[1].what


def test_killed_work_goes_on(
    remote: tuple[Path, list[Job]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, jobs = remote
    notes = tmp_path / "notes"
    code = (
        "import sys, os, signal\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path\n"
        "from components.lineage import sweep\n"
        "from components.workspace.remote import Objects, FOLDER\n"
        "from components.lineage.sweep import Job\n"
        f"root = Path({str(root)!r})\n"
        "names = sorted(p.parent.name + p.name for p in (root / FOLDER).glob('*/*'))\n"
        "jobs = [Job(name, None, name) for name in names]\n"
        "stop = lambda done, total: done > 1000 and os.kill(os.getpid(), signal.SIGKILL)\n"
        f"sweep.hash_all(Objects.of_folder(root), jobs, Path({str(notes)!r}), stop)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    noted = len(notes.read_text().splitlines())
    assert 1000 < noted < COUNT
    again = hash_all(Objects.of_folder(root), jobs, notes)
    assert again.objects == COUNT - noted
    assert again.findings[0].verdict == Verdict.VERIFIED


def test_notes_of_another_day_count_no_more(remote: tuple[Path, list[Job]], tmp_path: Path) -> None:
    root, jobs = remote
    notes = tmp_path / "notes"
    notes.write_text("".join(f"{job.md5}\n" for job in jobs))
    old = time.time() - sweep._FRESH - 60
    os.utime(notes, (old, old))
    assert hash_all(Objects.of_folder(root), jobs, notes).objects == COUNT


def test_memory_does_not_follow_the_size_of_an_object(tmp_path: Path) -> None:
    path = tmp_path / "big"
    with open(path, "wb") as file:
        file.truncate(160 << 20)
    md5 = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            md5.update(block)
    name = md5.hexdigest()
    place = tmp_path / FOLDER / name[:2] / name[2:]
    place.parent.mkdir(parents=True)
    path.rename(place)
    before = psutil.Process().memory_info().rss
    peak = 0

    def watch(done: int, total: int) -> None:
        nonlocal peak
        peak = max(peak, psutil.Process().memory_info().rss - before)

    done = hash_all(Objects.of_folder(tmp_path), [Job(name, None, "big")], tmp_path / "n", watch)
    assert done.bytes == 160 << 20
    assert peak < 60 << 20


def test_the_bench_measures_the_same_bytes(tmp_path: Path) -> None:
    found = bench_audit(200, 100, tmp_path)
    assert found["objects"] == 200
    assert found["bytes"] >= 200 * 50
    assert found["md5_against_md5sum"] > 0
