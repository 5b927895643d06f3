"""README and docs walked in fresh clones: every command as it is written, in order.

`pytest --campaigns` walks; what can be checked of the commands without running them is checked by
tests/test_documents.py in every run.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from documents import ROOT, WALKED, Command, commands
from production_support import free_ports
from walk_support import (
    DEVIATIONS,
    QUICK,
    Reader,
    Shell,
    broken_promise,
    lend_environment,
    provide,
    settle,
    unused,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(7200)]


def test_every_deviation_is_of_one_command() -> None:
    found = [command for document in WALKED for command in commands(document)]
    assert unused(DEVIATIONS, found) == []
    assert unused(DEVIATIONS, found[:1]) == list(DEVIATIONS)
    assert unused(DEVIATIONS, [*found, *found]) == list(DEVIATIONS)


def test_a_quick_look_changes_what_the_parameters_say() -> None:
    params = (ROOT / "params.yaml").read_text()
    assert {old: params.count(old) for old in QUICK} == dict.fromkeys(QUICK, 1)


def test_a_shell_keeps_what_a_readers_shell_keeps(tmp_path: Path) -> None:
    shell = Shell(tmp_path, dict(os.environ), tmp_path / "log")
    try:
        assert shell.run("mkdir there && cd there; here=$PWD; false") == (1, "")
        assert shell.run('cat; echo "$here"') == (0, f"{tmp_path}/there\n")
        assert shell.run("sleep 600 &\nkill $!")[0] == 0
    finally:
        shell.close()


def test_a_walk_ends_where_a_command_does_not_do_as_it_says(tmp_path: Path) -> None:
    reader = Reader(tmp_path, dict(os.environ))
    done = []
    good = Command("doc.md", 1, "cat missing   # exit code 1: there is none")
    reader.walk([good], {"cat": lambda: done.append(1)}, tmp_path / "log")
    assert done == [1]
    with pytest.raises(AssertionError, match=r"doc\.md:2: cat missing\nexit code 1 instead of 0"):
        reader.walk([Command("doc.md", 2, "cat missing")], None, tmp_path / "log")
    with pytest.raises(AssertionError, match="no command begins"):
        reader.walk([good], {"dog": lambda: None}, tmp_path / "log")


@pytest.mark.parametrize(
    ("text", "code", "said", "earlier"),
    [
        ("iml audit x  # exit code 2: why", 0, "", ""),
        ("iml run", 0, "Traceback (most recent call last):", ""),
        ("check", 0, "row 3 EDITED", ""),
        ("sha256sum x  # must be equal", 0, "a" * 64, "b" * 64),
        ("sha256sum x  # must be equal", 0, "a" * 64, "nothing"),
    ],
)
def test_a_broken_promise_is_seen(text: str, code: int, said: str, earlier: str) -> None:
    assert broken_promise(Command("doc.md", 1, text), code, said, earlier)


def test_a_kept_promise_is_seen() -> None:
    equal = Command("doc.md", 1, "sha256sum x; jq y  # must be equal")
    assert broken_promise(equal, 0, f"{'a' * 64}  x\n{'a' * 64}\n", "") is None


@pytest.fixture
def place(campaigns: bool) -> Iterator[Path]:
    """A folder that every account may enter: PostgreSQL has one of its own."""
    if not campaigns:
        pytest.skip("minutes of training; run with --campaigns")
    place = Path(tempfile.mkdtemp(prefix="iml-walk-", dir="/tmp"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place, ignore_errors=True)


def test_readme_promotion_audit_and_student_in_one_clone(
    place: Path, record_property: Callable[[str, object], None]
) -> None:
    home = place / "home"
    reader = settle(place / "project", home)
    reader.environment["BSDS500"] = str(home / "bsds500")
    provide(home)
    found = {document: commands(document, reader.folder) for document in WALKED[:-1]}
    record_property("commands", sum(map(len, found.values())))
    for document, steps in found.items():
        reader.walk(steps)
        if document == "README.md":
            assert reader.run("git", "status", "--porcelain") == ""


def test_operations_in_a_clone_of_its_own(
    place: Path, record_property: Callable[[str, object], None]
) -> None:
    reader = settle(place / "project", place / "home")
    provide(place / "home")
    ports = zip(("POSTGRES", "S3", "MLFLOW", "PREFECT"), free_ports(4), strict=True)
    reader.environment.update({f"IML_{name}_PORT": str(port) for name, port in ports})
    lost = place / "lost"

    def lose_the_machine() -> None:
        reader.run("iml", "stack", "down")
        reader.folder.rename(lost)
        reader.folder.mkdir()
        (place / "home/.local").rename(place / "lost-state")

    before = {
        "git clone ../backup/repository.git": lose_the_machine,
        "make install && ": lambda: lend_environment(reader.folder),
    }
    found = commands(WALKED[-1], reader.folder)
    record_property("commands", len(found))
    try:
        reader.walk(found, before)
        assert "champion" in reader.run("iml", "model", "list")
    finally:
        reader.run("iml", "stack", "down", code=None)
