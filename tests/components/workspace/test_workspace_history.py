"""Reading a git repository that may be a stranger's."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from components.core.errors import CheckError
from components.workspace import history

Call = Callable[[Path, str], object]
CALLS: dict[str, Call] = {
    "refs_to": history.refs_to,
    "tree": history.tree,
    "bundle": lambda root, commit: history.bundle(root, commit, "none", root / "out.bundle"),
    "checkout": history.checkout,
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch", "main")
    (root / "kept").write_text("one")
    commit(root)
    return root


def git(root: Path, *arguments: str) -> str:
    who = ("-c", "user.name=T", "-c", "user.email=t@example.org")
    command = ["git", *who, *arguments]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout


def commit(root: Path) -> str:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", "-m", "x")
    return git(root, "rev-parse", "HEAD").strip()


@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_full_commit_id_is_refused(repository: Path, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("dear")
    hostile = (f"--output={victim}", "HEAD", "main", "abc1234", "", "a" * 39, None, 7, ["a" * 40])
    for value in hostile:
        assert not history.is_commit(value)
        assert not history.has_commit(repository, value)
        with pytest.raises(CheckError, match="no full commit id"):
            CALLS[name](repository, value)
    assert victim.read_text() == "dear"
    assert history.tree(repository, git(repository, "rev-parse", "HEAD").strip()) == {
        "kept": b"one"
    }


def test_which_commit_descends_from_which(repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD").strip()
    second = commit(repository)
    git(repository, "checkout", "--quiet", "--orphan", "other")
    (repository / "kept").write_text("two")
    other = commit(repository)
    assert history.descends(repository, second, first)
    assert history.descends(repository, first, first)
    assert not history.descends(repository, first, second)
    assert not history.descends(repository, other, first)
    assert not history.descends(repository, "0" * 40, first)
    for pair in (("HEAD", first), (first, "HEAD"), ("--help", first)):
        with pytest.raises(CheckError, match="no full commit id"):
            history.descends(repository, *pair)
