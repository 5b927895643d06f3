from __future__ import annotations

import fcntl
import hashlib
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from components.core.errors import InputError, UnavailableError
from components.pseudo_label.checkpoints import download


def get(server, target: Path, **changes) -> None:
    values = {
        "size": len(server.body),
        "sha256": hashlib.sha256(server.body).hexdigest(),
        "timeout": 0.5,
    }
    download(server.url, target, **{**values, **changes})


def test_whole_file_with_progress(server, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    get(server, tmp_path / "w.pth", progress=lambda done, total: seen.append((done, total)))
    assert (tmp_path / "w.pth").read_bytes() == server.body
    assert seen[-1] == (len(server.body), len(server.body))
    assert [path.name for path in tmp_path.glob("[!.]*")] == ["w.pth"]


def test_cut_connection_goes_on_where_it_stopped(server, tmp_path: Path) -> None:
    server.moods = ["cut", "cut"]
    get(server, tmp_path / "w.pth")
    assert (tmp_path / "w.pth").read_bytes() == server.body
    assert server.ranges == [None, "bytes=150000-", "bytes=225000-"]


def test_earlier_part_is_resumed_by_a_later_call(server, tmp_path: Path) -> None:
    (tmp_path / "w.pth.part").write_bytes(server.body[:1000])
    get(server, tmp_path / "w.pth")
    assert server.ranges == ["bytes=1000-"]
    assert (tmp_path / "w.pth").read_bytes() == server.body


def test_complete_part_needs_no_server(server, tmp_path: Path) -> None:
    (tmp_path / "w.pth.part").write_bytes(server.body)
    get(server, tmp_path / "w.pth")
    assert server.ranges == []


def test_server_without_ranges_starts_again(server, tmp_path: Path) -> None:
    server.moods = ["no ranges"]
    (tmp_path / "w.pth.part").write_bytes(b"x" * 1000)
    get(server, tmp_path / "w.pth")
    assert (tmp_path / "w.pth").read_bytes() == server.body


def test_answer_with_another_range_is_refused(server, tmp_path: Path) -> None:
    server.moods = ["shifted"]
    (tmp_path / "w.pth.part").write_bytes(server.body[:1000])
    with pytest.raises(InputError, match="another range"):
        get(server, tmp_path / "w.pth")
    get(server, tmp_path / "w.pth")
    assert (tmp_path / "w.pth").read_bytes() == server.body


def test_corrupted_file_is_not_kept(server, tmp_path: Path) -> None:
    server.moods = ["corrupt"]
    with pytest.raises(InputError, match="its hash is not"):
        get(server, tmp_path / "w.pth")
    assert list(tmp_path.glob("[!.]*")) == []


@pytest.mark.parametrize("mood", ["too long", "unannounced"])
def test_file_larger_than_expected_is_refused(server, tmp_path: Path, mood: str) -> None:
    server.moods = [mood]
    with pytest.raises(InputError, match=r"not 300000|more than 300000"):
        get(server, tmp_path / "w.pth")
    assert not (tmp_path / "w.pth").exists()
    assert (tmp_path / "w.pth.part").stat().st_size == 0


@pytest.mark.parametrize("mood", ["hang", "trickle"])
def test_server_that_is_too_slow(server, tmp_path: Path, mood: str) -> None:
    server.moods = [mood] * 20
    with pytest.raises(UnavailableError, match=r"timed out|too slow"):
        get(server, tmp_path / "w.pth", timeout=0.3)
    assert not (tmp_path / "w.pth").exists()


def test_http_error_and_refused_connection(server, tmp_path: Path) -> None:
    server.moods = ["missing"]
    with pytest.raises(UnavailableError, match="404"):
        get(server, tmp_path / "w.pth")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UnavailableError, match="refused"):
        download(f"http://127.0.0.1:{port}/w", tmp_path / "w.pth", size=1, sha256="0" * 64)


def test_other_schemes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="only http"):
        download(f"file://{tmp_path}/x", tmp_path / "w.pth", size=1, sha256="0" * 64)


def test_a_second_download_waits_for_the_first_and_goes_on_where_that_failed(
    server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "w.pth"
    for outcome in ("brought", "cut off"):
        target.unlink(missing_ok=True)
        server.ranges.clear()
        with open(tmp_path / ".w.pth.lock", "w") as other, ThreadPoolExecutor() as pool:
            fcntl.flock(other, fcntl.LOCK_EX)
            second = pool.submit(get, server, target)
            while "w.pth: waiting for another process" not in caplog.text:
                assert not second.done(), second.result()
            caplog.clear()
            brought = outcome == "brought"
            (target if brought else tmp_path / "w.pth.part").write_bytes(
                server.body if brought else server.body[:1000]
            )
            fcntl.flock(other, fcntl.LOCK_UN)
            second.result(timeout=10)
        assert target.read_bytes() == server.body
        assert server.ranges == ([] if brought else ["bytes=1000-"])
