"""Reading a git repository: whether a commit is there, intact and reachable, and what it holds.

Every function takes the repository's folder, which may be a clone of an exported bundle. A commit's
id may come from outside too: anything but a full id is refused with EvidenceError, since git might
take it for an option.
"""

from __future__ import annotations

import errno
import io
import os
import re
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from components.core.errors import EvidenceError, InputError

_TREE = 1 << 29  # bytes of a commit's files; packed, a small bundle may hold far more
UNSHALLOW = "git fetch --unshallow --tags"
_FULL = (b"Out of diskspace", b"No space left on device")  # what git says then
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def _command(root: Path, *arguments: str) -> tuple[str, ...]:
    # Replacement refs would show other objects under the recorded names.
    return ("git", "--no-replace-objects", "-C", str(root), *arguments)


def _git(
    root: Path, *arguments: str, data: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    try:
        command = _command(root, *arguments)
        return subprocess.run(command, input=data, capture_output=True, check=False)
    except FileNotFoundError:
        raise InputError("git is not installed") from None


def _must(root: Path, *arguments: str, data: bytes | None = None) -> bytes:
    done = _git(root, *arguments, data=data)
    if done.returncode:
        if any(words in done.stderr for words in _FULL):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"git {arguments[0]}")
        raise EvidenceError(_last_line(done.stderr), where=f"git {arguments[0]}")
    return done.stdout


def _last_line(errors: bytes) -> str:
    return (errors.decode(errors="replace").strip().splitlines() or ["no message"])[-1]


def is_commit(value: object) -> bool:
    """Whether a value is a full commit id, and so safe to hand to git."""
    return isinstance(value, str) and bool(_COMMIT.fullmatch(value))


def _full(commit: str) -> str:
    """The commit's id, if it is one."""
    if not is_commit(commit):
        raise EvidenceError(f"{commit!r:.60} is no full commit id", where="git repository")
    return commit


def has_commit(root: Path, commit: str) -> bool:
    """Whether the repository holds this commit."""
    return is_commit(commit) and not _git(root, "cat-file", "-e", f"{commit}^{{commit}}").returncode


def shallow(root: Path) -> bool:
    """Whether the repository is a clone that lacks the older commits."""
    return _git(root, "rev-parse", "--is-shallow-repository").stdout.strip() == b"true"


def absent(root: Path) -> str:
    """Why a commit may be absent, for people."""
    if shallow(root):
        return f"the commit is not in this clone, which is shallow: run `{UNSHALLOW}`"
    return "the commit is not in the git repository"


def damage(root: Path) -> list[str]:
    """What `git fsck` says is corrupt or missing; every object is hashed again."""
    done = _git(root, "fsck", "--full", "--no-dangling", "--no-progress")
    if not done.returncode:
        return []
    lines = (done.stdout + done.stderr).decode(errors="replace").splitlines()
    harmless = ("notice:", "dangling ", "unreachable ", "Checking ", "warning ")
    found = [line for line in lines if line.strip() and not line.startswith(harmless)]
    return found or ["git fsck failed"]


def refs_to(root: Path, commit: str) -> list[str]:
    """Branches and tags whose history holds a commit."""
    contains = ("--contains", _full(commit))
    names = _git(root, "for-each-ref", *contains, "--format=%(refname)").stdout
    return names.decode().split()


def descends(root: Path, commit: str, ancestor: str) -> bool:
    """Whether a commit's history holds another."""
    pair = (_full(ancestor), _full(commit))
    return not _git(root, "merge-base", "--is-ancestor", *pair).returncode


def tagged(root: Path, tag: str) -> str | None:
    """The commit a tag points at, or None where there is no such tag."""
    done = _git(root, "rev-parse", "--verify", "--quiet", f"refs/tags/{tag}^{{commit}}")
    return done.stdout.decode().strip() or None


def tree(root: Path, commit: str) -> dict[str, bytes]:
    """Every file of a commit by path, as committed: no attribute or setting changes its bytes.

    Raises:
        EvidenceError: a missing commit, a corrupt object, or more than half a gigabyte of files.
    """
    listing = _must(root, "ls-tree", "-r", "-l", "-z", _full(commit))
    files: list[tuple[str, int, str]] = []  # object, size, path
    for line in listing.decode(errors="surrogateescape").split("\0")[:-1]:
        about, _, path = line.partition("\t")
        mode, _, name, size = about.split()
        if not mode.startswith("100"):  # a link, or another repository
            continue
        if not size.isdecimal():
            raise _lost(name, commit)
        files.append((name, int(size), path))
    if sum(size for _, size, _ in files) > _TREE:
        raise EvidenceError(f"its files are more than {_TREE >> 20} MB", where=f"commit {commit}")
    wanted = "".join(f"{name}\n" for name, _, _ in files).encode()
    found = io.BytesIO(_must(root, "cat-file", "--batch", data=wanted))
    read = {}
    for name, _, path in files:
        head = found.readline().split()
        if head[:2] != [name.encode(), b"blob"]:
            raise _lost(name, commit)
        read[path] = found.read(int(head[2]))
        found.read(1)
    return read


def _lost(name: str, commit: str) -> EvidenceError:
    return EvidenceError(f"object {name} is missing or corrupt", where=f"commit {commit}")


def bundle(root: Path, commit: str, tag: str, target: Path) -> None:
    """Write a commit with its whole history as a git bundle whose one branch is `audited`.

    The tag of the version goes with it where there is one. Nothing is written to the repository.

    Raises:
        EvidenceError: the commit or a part of its history is missing.
    """
    where = f"commit {_full(commit)}"
    if not has_commit(root, commit):
        raise EvidenceError(absent(root), where=where)
    if shallow(root):
        what = f"this clone is shallow and lacks a part of its history: run `{UNSHALLOW}`"
        raise EvidenceError(what, where=where)
    names = {"refs/heads/audited": commit}
    if tagged(root, tag):
        name = f"refs/tags/{tag}"
        names[name] = _must(root, "rev-parse", name).decode().strip()
    objects = root / _must(root, "rev-parse", "--git-path", "objects").decode().strip()
    with TemporaryDirectory(prefix="iml-bundle-") as scratch:
        own = Path(scratch)
        kind = "sha1" if len(commit) == 40 else "sha256"
        _must(own, "init", "--quiet", "--bare", "--template=", f"--object-format={kind}")
        (own / "objects/info").mkdir(exist_ok=True)
        (own / "objects/info/alternates").write_text(f"{objects.resolve()}\n", encoding="utf-8")
        for name, target_id in names.items():
            _must(own, "update-ref", name, target_id)
        _must(own, "bundle", "create", "--quiet", str(target.absolute()), *names)


def clone(source: str | Path, target: Path, *, bare: bool = False) -> None:
    """Clone a repository or a bundle with all its branches and tags; nothing is checked out.

    A checkout of the clone gives files as committed, whatever this machine's line ends are.
    """
    kind = ("--mirror",) if bare else ("--no-checkout", "--config", "core.autocrlf=false")
    _must(Path.cwd(), "clone", "--quiet", *kind, str(source), str(target))


def checkout(root: Path, commit: str) -> None:
    """Check out a commit; raises EvidenceError for a missing one."""
    _must(root, "checkout", "--quiet", "--detach", _full(commit))
