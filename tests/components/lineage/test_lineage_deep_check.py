"""Hashing many objects: every bad one found, killed work resumed, memory bounded."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.lineage import bench_audit
from components.lineage import deep_check
from components.lineage.deep_check import Job, hash_all
from components.lineage.evidence import Evidence
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
        "from components.lineage import deep_check\n"
        "from components.workspace.remote import Objects, FOLDER\n"
        "from components.lineage.deep_check import Job\n"
        f"root = Path({str(root)!r})\n"
        "names = sorted(p.parent.name + p.name for p in (root / FOLDER).glob('*/*'))\n"
        "jobs = [Job(name, None, name) for name in names]\n"
        "stop = lambda done, total: done > 1000 and os.kill(os.getpid(), signal.SIGKILL)\n"
        f"deep_check.hash_all(Objects.of_folder(root), jobs, Path({str(notes)!r}), stop)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    noted = len(notes.read_text().splitlines()) - 1  # the first line is a time
    assert 1000 < noted < COUNT
    plain = [Job(job.md5, None, job.path) for job in jobs]
    again = hash_all(Objects.of_folder(root), plain, notes)
    assert again.objects == COUNT - noted
    assert again.findings[0].verdict == Verdict.VERIFIED


def write_notes(notes: Path, age: float, jobs: list[Job]) -> None:
    """Notes begun so many seconds ago, and last written to now."""
    lines = [str(int(time.time() - age)), *(job.note for job in jobs)]
    notes.parent.mkdir(parents=True, exist_ok=True)
    notes.write_text("".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize(
    ("age", "hashed"), [(60, 0), (deep_check._FRESH + 60, COUNT), (-3600, COUNT), (10**12, COUNT)]
)
def test_notes_count_for_a_day_from_their_start(
    remote: tuple[Path, list[Job]], tmp_path: Path, age: float, hashed: int
) -> None:
    root, jobs = remote
    write_notes(tmp_path / "notes", age, jobs)
    assert hash_all(Objects.of_folder(root), jobs, tmp_path / "notes").objects == hashed


def test_notes_of_an_audit_that_was_killed_again_keep_their_start(tmp_path: Path) -> None:
    jobs, notes = make(tmp_path, 2000), tmp_path / "notes"
    write_notes(notes, deep_check._FRESH - 60, jobs[:10])
    start = notes.read_text().splitlines()[0]

    def killed(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hash_all(Objects.of_folder(tmp_path), jobs, notes, killed)
    lines = notes.read_text().splitlines()
    assert lines[0] == start
    assert len(lines) == 1 + 10 + deep_check._CHUNK


@pytest.mark.parametrize("text", ["", "\xff", "0" * 32 + "\n"])
def test_notes_that_cannot_be_read_count_for_nothing(tmp_path: Path, text: str) -> None:
    jobs, notes = make(tmp_path, 20), tmp_path / "notes"
    notes.write_text(text, encoding="latin-1")
    assert hash_all(Objects.of_folder(tmp_path), jobs, notes).objects == 20


def test_two_audits_at_once(tmp_path: Path) -> None:
    jobs, notes = make(tmp_path, 20), tmp_path / "notes"
    again: list[deep_check.DeepCheck] = []

    def other(done: int, total: int) -> None:
        again.append(hash_all(Objects.of_folder(tmp_path), jobs, notes))

    done = hash_all(Objects.of_folder(tmp_path), jobs, notes, other)
    assert [f.verdict for f in (*done.findings, *again[0].findings)] == [Verdict.VERIFIED] * 2
    assert not notes.exists()


def test_one_object_under_several_paths_keeps_every_sha256(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = make(tmp_path, 2)[1], "0" * 64
    photos = {"data/a/1": bad, "data/a/2": str(good.sha256)}
    paths = ["data/a/1", "data/a/2", "data/b/1", "runs/x"]
    monkeypatch.setattr(deep_check.data, "photo_hashes", lambda evidence: photos)
    monkeypatch.setattr(
        deep_check.data, "contents", lambda evidence: ((p, good.md5) for p in paths)
    )
    monkeypatch.setenv("IML_STATE", str(tmp_path / "state"))
    files, objects = tmp_path / "none", Objects.of_folder(tmp_path)
    evidence = Evidence("m", 1, "", [], None, None, None, files, files, None, objects)
    evidence.__dict__["facts"] = {"record_sha256": "r"}
    jobs = deep_check._jobs(evidence)
    assert [(job.path, job.sha256) for job in jobs] == list(photos.items())
    (finding,) = deep_check.deep_check(evidence).findings
    assert (finding.verdict, finding.where) == (Verdict.BROKEN, "data/a/1")
    # What a killed audit had found good says nothing of the other SHA-256.
    write_notes(deep_check._notes(evidence, Path()), 60, jobs[1:])
    assert deep_check.deep_check(evidence).findings == [finding]


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
