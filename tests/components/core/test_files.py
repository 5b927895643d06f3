"""Hashes, atomic writes, paths that cannot leave their root."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core import files, paths
from components.core.errors import CheckError, InputError


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.booleans(), inner),
        max_leaves=20,
    )
)  # fmt: skip
def test_written_json_is_that_of_the_standard_library(value: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.json"
        try:
            expected = (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
        except UnicodeEncodeError:  # half a surrogate pair
            return
        files.write_json(path, value)
        assert path.read_bytes() == expected


def test_hashes_are_sha256(tmp_path: Path) -> None:
    data = os.urandom(100_000)
    (tmp_path / "a").write_bytes(data)
    assert files.sha256_file(tmp_path / "a") == hashlib.sha256(data).hexdigest()
    assert files.sha256_bytes(data) == hashlib.sha256(data).hexdigest()


def test_equal_values_have_equal_canonical_json() -> None:
    assert files.canonical_json({"b": 1, "a": [1.5, "é"]}) == '{"a":[1.5,"é"],"b":1}'.encode()
    assert files.sha256_json({"b": 1, "a": 2}) == files.sha256_json({"a": 2, "b": 1})
    with pytest.raises(ValueError, match="JSON"):
        files.canonical_json({"a": float("nan")})


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"a": float("inf")})
    with pytest.raises(ZeroDivisionError), files.atomic(path) as temporary:
        temporary.write_text(f"half {1 / 0}")
    assert files.read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["result.json"]


def test_a_written_file_has_ordinary_rights(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_broken_json_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match=r"a\.json.*not valid JSON"):
        files.read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("1" * 5000)
    with pytest.raises(InputError, match=r"a\.json.*not valid JSON"):
        files.read_json(tmp_path / "a.json")
    with pytest.raises(InputError, match="no such file"):
        files.read_json(tmp_path / "b.json")


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd", "link/x", "a\0b"])
def test_paths_cannot_leave_their_root(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(InputError):
        files.inside(root, path)


def test_paths_inside_are_joined(tmp_path: Path) -> None:
    assert files.inside(tmp_path, "a/../b/c.jpg") == tmp_path / "a/../b/c.jpg"


def test_link_or_copy_replaces_and_keeps_the_source(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("new")
    (tmp_path / "b").write_text("old")
    files.link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == (tmp_path / "a").read_text() == "new"


def test_outside_the_project_there_is_no_state_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IML_STATE")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"params\.yaml: no such file; run this in the project"):
        paths.state_dir()
    (tmp_path / "params.yaml").touch()
    assert paths.state_dir() == tmp_path / ".state"


def test_the_state_folder_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IML_STATE", str(tmp_path))
    assert paths.state_dir() == tmp_path


def test_a_place_is_tried_and_nothing_is_left(tmp_path: Path) -> None:
    assert files.check_folder(tmp_path / "a/b") == tmp_path / "a/b"
    assert files.check_place(tmp_path / "c/page.html") == tmp_path / "c/page.html"
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "kept").mkdir()
    files.check_folder(tmp_path / "kept/below")
    files.check_folder(tmp_path / "kept")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    with pytest.raises(InputError, match="kept: is a folder; name a file"):
        files.check_place(tmp_path / "kept")
    (tmp_path / "file").touch()
    for wrong in ("file", "file/below", "n" * 300):
        with pytest.raises(InputError, match="cannot be written into"):
            files.check_folder(tmp_path / wrong)
    assert (tmp_path / "file").is_file()


HOLDER = """
import sys, time
from pathlib import Path
from components.core.files import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_holds_no_lock_and_no_file_stays(tmp_path: Path) -> None:
    path, waits = tmp_path / ".lock", threading.Event()

    def wait() -> None:
        with files.alone(path, waits.set):
            pass

    command = [sys.executable, "-c", HOLDER, str(path)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder,
        ThreadPoolExecutor() as pool,
    ):
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(CheckError, match="lock: somebody works here; wait for it to end"):
            files.held(path, "somebody works here").__enter__()
        later = pool.submit(wait)
        assert waits.wait(10)
        assert not later.done()
        holder.kill()
        later.result(timeout=10)
    assert list(tmp_path.iterdir()) == []


def test_threads_and_processes_take_turns(tmp_path: Path) -> None:
    count = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from components.core.files import alone
folder = Path(sys.argv[1])
def add(_):
    with alone(folder / ".lock"):
        seen = int((folder / "count").read_text())
        (folder / "count").write_text(str(seen + 1))
with ThreadPoolExecutor(4) as pool:
    list(pool.map(add, range(20)))
"""
    (tmp_path / "count").write_text("0")
    both = [subprocess.Popen([sys.executable, "-c", count, str(tmp_path)]) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert (tmp_path / "count").read_text() == "40"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]


def test_the_lock_file_is_removed_while_it_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.unlink

    def unlink(path: Path) -> None:
        with open(path) as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        real(path)

    monkeypatch.setattr(Path, "unlink", unlink)
    with files.alone(tmp_path / ".lock"):
        pass
    assert list(tmp_path.iterdir()) == []
