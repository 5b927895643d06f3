"""Reading a git repository that may be a stranger's."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from components.core.errors import CheckError, EvidenceError
from components.workspace import history

Call = Callable[[Path, str], object]
CALLS: dict[str, Call] = {
    "refs_to": history.refs_to,
    "tree": history.tree,
    "bundle": lambda root, commit: history.bundle(root, commit, "none", root / "out.bundle"),
    "checkout": history.checkout,
}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
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


def test_a_bundle_is_written_without_a_trace(repository: Path, tmp_path: Path) -> None:
    first = git(repository, "rev-parse", "HEAD").strip()
    git(repository, "tag", "--annotate", "-m", "x", "made")
    second = commit(repository)
    before = {p: p.read_bytes() for p in sorted(repository.rglob("*")) if p.is_file()}
    history.bundle(repository, first, "made", tmp_path / "out.bundle")
    assert {p: p.read_bytes() for p in sorted(repository.rglob("*")) if p.is_file()} == before
    history.clone(tmp_path / "out.bundle", tmp_path / "copy", bare=True)
    assert git(tmp_path / "copy", "cat-file", "-t", "made").strip() == "tag"
    assert history.tagged(tmp_path / "copy", "made") == first
    assert not history.has_commit(tmp_path / "copy", second)
    with pytest.raises(EvidenceError, match=r"^commit 0+: .* is not in the git repository$"):
        history.bundle(repository, "0" * 40, "made", tmp_path / "out.bundle")


def test_a_shallow_clone_is_told_from_a_loss(repository: Path, tmp_path: Path) -> None:
    first = git(repository, "rev-parse", "HEAD").strip()
    second = commit(repository)
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{repository}", "shallow")
    assert [history.shallow(root) for root in (repository, tmp_path / "shallow")] == [False, True]
    for name in (first, second):
        with pytest.raises(EvidenceError, match=r"shallow.*`git fetch --unshallow --tags`$"):
            history.bundle(tmp_path / "shallow", name, "none", tmp_path / "out.bundle")


def test_a_commits_files_are_as_committed_whatever_the_settings(
    repository: Path, tmp_path: Path
) -> None:
    files = {
        "lf.txt": b"one\ntwo\n",
        "crlf.txt": b"one\r\ntwo\r\n",
        "marked.txt": b"$Format:%H$\n",
        ".gitattributes": b"marked.txt export-subst\nleft.txt export-ignore\n",
        "left.txt": b"",
        'folder/n\xc3\xa4me "x"\n.bin': bytes(range(256)),
    }
    for name, data in files.items():
        path = repository / name.encode("latin-1").decode()
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    (repository / "link").symlink_to("lf.txt")
    one = commit(repository)
    expected = {name.encode("latin-1").decode(): data for name, data in files.items()}
    git(repository, "config", "core.autocrlf", "true")
    assert history.tree(repository, one) == {**expected, "kept": b"one"}
    # A checkout to make a version again in is as committed, too, on a machine with that setting.
    git(repository, "config", "--global", "core.autocrlf", "true")
    clone = tmp_path / "clone"
    history.clone(repository, clone)
    history.checkout(clone, one)
    assert (clone / "lf.txt").read_bytes() == files["lf.txt"]


def test_a_commit_of_a_missing_file_is_one_line(repository: Path) -> None:
    one = git(repository, "rev-parse", "HEAD").strip()
    name = git(repository, "rev-parse", "HEAD:kept").strip()
    (repository / ".git/objects" / name[:2] / name[2:]).unlink()
    with pytest.raises(CheckError) as caught:
        history.tree(repository, one)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
