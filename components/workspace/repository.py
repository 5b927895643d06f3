"""The branch `retrain` in its own clone: where scheduled runs start, and what they add.

A run starts at the tip of `retrain` with the default branch merged in, and adds new data,
`dvc.lock` with the metrics, and a tag per version. The default branch is never written to. Every
function but `prepare` works on the clone that is the current directory.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

from components.core.errors import CheckError
from components.core.files import write_json
from components.workspace import call, dvc, git_commit

BRANCH, METRICS = "retrain", "metrics.json"
_PULLED = "iml.pulled"  # the commit whose data and outputs are in the clone
LOCAL = "local/"  # before the name of the tag of a person's version
_WHO = {"user.name": "boxpromptiml retrain", "user.email": "retrain@localhost"}


def prepare(source: str, folder: Path, remote: str, cache: Path) -> str:
    """Bring a clone to the commit that a run starts from; its data come by `fetch`.

    Args:
        source: address or folder of the git repository.
        folder: of the clone; made if absent.
        remote: address of the DVC remote.
        cache: DVC's cache, kept between clones.

    Returns:
        The commit.

    Raises:
        UnavailableError: the repository does not answer.
        CheckError: the two branches contradict each other in more than dvc.lock.
    """
    git = ("git", "-C", str(folder))
    whole = (folder / ".git").is_dir() and _has(git, "HEAD")  # else interrupted while made
    if not whole:
        shutil.rmtree(folder, ignore_errors=True)
        call("git", "clone", "--quiet", source, str(folder))
    # What a killed run left; the caller holds the workspace, so no git is at work here.
    for lock in (folder / ".git").rglob("*.lock"):
        lock.unlink(missing_ok=True)
    (folder / ".git/config").chmod(0o600)  # the address may hold a password
    call(*git, "remote", "set-url", "origin", source)
    for name, value in _WHO.items():
        call(*git, "config", name, value)
    # An unfinished merge, changes, untracked files of a killed run.
    call(*git, "reset", "--quiet", "--hard")
    call(*git, "clean", "-ffdq")
    # No --prune-tags: a version's tag that could not be pushed yet is pushed by the next run.
    # --force: a tag that was moved there is moved here.
    call(*git, "fetch", "--quiet", "--prune", "--tags", "--force", "origin")
    call(*git, "remote", "set-head", "origin", "--auto")
    default = call(*git, "rev-parse", "--abbrev-ref", "origin/HEAD").strip()
    start = f"origin/{BRANCH}" if _has(git, f"refs/remotes/origin/{BRANCH}") else default
    call(*git, "checkout", "--quiet", "--force", "-B", BRANCH, start)
    _merge(git, default)
    _configure(folder, remote, cache)
    return call(*git, "rev-parse", "HEAD").strip()


def fetch() -> None:
    """Bring data and outputs of the clone to its commit, from the remote, unless they are there."""
    commit = git_commit()
    if call("git", "config", "--default", "", "--get", _PULLED).strip() != commit:
        # Outputs of a run elsewhere may never have been pushed; those stages then run again.
        dvc("pull", "--force", "--allow-missing")
        call("git", "config", _PULLED, commit)


def _has(git: tuple[str, ...], name: str) -> bool:
    try:
        call(*git, "rev-parse", "--quiet", "--verify", f"{name}^{{commit}}")
    except CheckError:
        return False
    return True


def _merge(git: tuple[str, ...], default: str) -> None:
    """Merge the default branch; ours is kept, and stages run again, if only dvc.lock conflicts."""
    try:
        call(*git, "merge", "--quiet", "--no-edit", default)
        return
    except CheckError:
        conflicts = call(*git, "diff", "--name-only", "--diff-filter=U").split()
    if conflicts != ["dvc.lock"]:
        call(*git, "reset", "--quiet", "--hard")
        what = f"both changed {', '.join(conflicts) or 'it'}"
        raise CheckError(
            f"{default} cannot be merged into {BRANCH}: {what}",
            hint=f"merge {default} into {BRANCH} by hand",
        )
    call(*git, "checkout", "--quiet", "--ours", "dvc.lock")
    call(*git, "add", "dvc.lock")
    call(*git, "commit", "--quiet", "--no-edit")


def _configure(folder: Path, remote: str, cache: Path) -> None:
    """Where this clone's DVC keeps and fetches data; set in this clone only."""
    text = (
        f'[core]\n    remote = run\n[cache]\n    dir = "{cache}"\n'
        '    type = "reflink,hardlink,copy"\n'
        f'[\'remote "run"\']\n    url = "{remote}"\n'
    )
    path = folder / ".dvc/config.local"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def add_results(message: str) -> str:
    """Commit dvc.lock and the metrics, where they have changed; returns HEAD."""
    write_json(METRICS, json.loads(dvc("metrics", "show", "--json")))
    # All: the clone was clean, and DVC also writes .gitignore files.
    return add(message, "--all")


def commit_lock(message: str, *others: str) -> None:
    """Commit dvc.lock and some other files, and nothing else, where they have changed."""
    paths = ("dvc.lock", *others)
    if not call("git", "status", "--porcelain", "--", *paths).strip():
        return
    # Where git knows no name, the one of scheduled runs is used.
    known = call("git", "config", "--default", "", "--get", "user.email").strip()
    who = [] if known else [f"-c{name}={value}" for name, value in _WHO.items()]
    call("git", "add", *paths)
    call("git", *who, "commit", "--quiet", "-m", message, "--", *paths)


def unsettle() -> None:
    """Note that data will be changed: until they are committed, `fetch` brings them again."""
    call("git", "config", _PULLED, "")


def add(message: str, *paths: str) -> str:
    """Commit some paths, where they have changed; returns HEAD."""
    call("git", "add", *paths)
    if call("git", "diff", "--cached", "--name-only").strip():
        call("git", "commit", "--quiet", "-m", message)
    commit = git_commit()
    call("git", "config", _PULLED, commit)
    return commit


def push() -> None:
    """Push the branch and its versions' tags; raises InputError where the server refuses."""
    call("git", "push", "--quiet", "--follow-tags", "origin", BRANCH)


def tag_name(model: str, version: int | str) -> str:
    """The git tag that keeps what a version needs; of `*`, the pattern of all of a model's."""
    return f"model/{model}/v{version}"


def pin(model: str, version: int, commit: str) -> None:
    """Tag the commit of a version of a person's ledger, which a squash merge would lose.

    Its name is another than that of a deployment's version, whose numbers are of another ledger.
    The tag has no message, so `git push --follow-tags` leaves it here and git needs no user name.
    """
    call("git", "update-ref", f"refs/tags/{LOCAL}{tag_name(model, version)}", commit)


def tag(model: str, version: int) -> None:
    """Tag the commit of a version, unless it is tagged already, and push the tag."""
    name = tag_name(model, version)
    if not has_tag(model, version):
        call("git", "tag", "--annotate", "-m", f"{model}/{version}", name)
    call("git", "push", "--quiet", "origin", f"refs/tags/{name}")


def has_tag(model: str, version: int) -> bool:
    """Whether this clone knows a version's tag."""
    return bool(call("git", "tag", "--list", tag_name(model, version)).strip())


def tags(model: str, *, published: bool = False) -> list[str]:
    """The tags of a model's versions, the latest first; `published`: those of deployments alone."""
    patterns = [tag_name(model, "*"), *([] if published else [LOCAL + tag_name(model, "*")])]
    return call("git", "tag", "--sort=-v:refname", "--list", *patterns).split()


def last_version(model: str) -> str | None:
    """The tag of the latest version that was made from an ancestor of this commit, or None."""
    pattern = tag_name(model, "*")
    merged = call("git", "tag", "--merged", "HEAD", "--sort=-v:refname", "--list", pattern)
    return next(iter(merged.split()), None)


def version_of(tagged: str) -> int:
    """The number of the version that a tag is of."""
    return int(tagged.rpartition("/v")[2])


def same(tagged: str, *paths: str) -> bool:
    """Whether some paths are what they were at a tag."""
    return not call("git", "diff", "--name-only", tagged, "HEAD", "--", *paths).strip()


def age(tagged: str) -> float:
    """Days since a tag was made."""
    made = call("git", "for-each-ref", "--format=%(creatordate:unix)", f"refs/tags/{tagged}")
    return (time.time() - int(made)) / 86400
