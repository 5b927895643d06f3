"""The clone of scheduled runs: git and DVC for real, in small repositories of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pytest
import yaml

from components import workspace
from components.core.errors import CheckError, InputError, UnavailableError
from components.workspace import history, repository

WHO = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
STAGES = {
    "copy": {
        "cmd": "cp data/photos copied && echo '{\"f1\": 0.5}' > result.json",
        "deps": ["data/photos"],
        "outs": ["copied"],
        "metrics": ["result.json"],
    }
}


def git(folder: Path, *arguments: str) -> str:
    command = ("git", *WHO, *arguments)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def dvc(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "dvc", *arguments, "--quiet"]
    subprocess.run(command, cwd=folder, check=True)


def change(origin: Path, text: str, name: str = "params.yaml") -> None:
    (origin / name).write_text(text)
    git(origin, "add", name)
    git(origin, "commit", "-qm", text)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with tracked data, pushed to a remote beside it, and one stage."""
    home = tmp_path_factory.mktemp("template")
    folder = home / "origin"
    (folder / "data").mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    dvc(folder, "init")
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}))
    (folder / "params.yaml").write_text("value: one")
    (folder / "data/photos").write_text("first photos")
    dvc(folder, "add", "data/photos")
    local = "[core]\n    remote = store\n['remote \"store\"']\n    url = ../../remote\n"
    (folder / ".dvc/config.local").write_text(local)
    dvc(folder, "push")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "start")
    return home


@pytest.fixture
def origin(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it."""
    monkeypatch.setenv("IML_STATE", str(tmp_path / "state"))
    for name in ("origin", "remote"):
        shutil.copytree(template / name, tmp_path / name)
    return tmp_path / "origin"


@pytest.fixture
def clone(origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone in which we stand."""
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path / "clone")
    return tmp_path / "clone"


def prepare(home: Path) -> str:
    clone = home / "clone"
    commit = repository.prepare(str(home / "origin"), clone, str(home / "remote"), home / "cache")
    with chdir(clone):
        repository.fetch()
    return commit


def run_once() -> str:
    """What a run adds: outputs in the remote, a commit, a version's tag."""
    workspace.reproduce("copy", lambda line: None)
    workspace.push(["set"])
    commit = repository.add_results("retrain")
    repository.push()
    return commit


def test_a_run_is_shown_on_its_own_branch_alone(origin: Path, clone: Path, tmp_path: Path) -> None:
    main = git(origin, "rev-parse", "main")
    commit = run_once()
    repository.tag("m", 1)
    assert git(origin, "rev-parse", "main") == main
    assert git(origin, "rev-parse", "retrain") == commit
    assert git(origin, "rev-parse", "model/m/v1^{commit}") == commit
    assert "copy" in git(origin, "show", "retrain:dvc.lock")
    assert '"f1": 0.5' in git(origin, "show", "retrain:metrics.json")
    assert workspace.git_dirty() == []
    assert prepare(tmp_path) == commit
    assert workspace.changed(["set"]) == {}
    assert repository.last_version("m") == "model/m/v1"
    assert repository.last_version("other") is None
    assert repository.same("model/m/v1", "params.yaml", "dvc.lock")
    assert 0 <= repository.age("model/m/v1") < 1
    change(origin, "value: two")
    prepare(tmp_path)
    assert Path("params.yaml").read_text() == "value: two"
    assert not repository.same("model/m/v1", "params.yaml", "dvc.lock")
    assert git(origin, "log", "-1", "--format=%s", "main") == "value: two"


def test_a_new_clone_has_the_outputs_of_the_last_run(clone: Path, tmp_path: Path) -> None:
    commit = run_once()
    os.chdir(tmp_path)
    for folder in ("clone", "cache"):
        (tmp_path / folder).rename(tmp_path / f"old-{folder}")
    assert prepare(tmp_path) == commit
    os.chdir(tmp_path / "clone")
    assert workspace.changed(["set"]) == {}
    assert Path("copied").read_text() == "first photos"


def test_in_a_conflict_over_the_lock_the_stages_decide_anew(
    origin: Path, clone: Path, tmp_path: Path
) -> None:
    run_once()
    (origin / "data/photos").write_text("second photos")
    dvc(origin, "add", "data/photos")
    dvc(origin, "repro")
    dvc(origin, "push")
    git(origin, "add", ".")
    git(origin, "commit", "-qm", "a person ran it too")
    prepare(tmp_path)
    assert Path("data/photos").read_text() == "second photos"
    assert "copy" in workspace.changed(["set"])
    assert workspace.reproduce("copy", lambda line: None)


def test_any_other_conflict_needs_a_person(origin: Path, clone: Path, tmp_path: Path) -> None:
    Path("params.yaml").write_text("value: here")
    repository.add("here", "params.yaml")
    repository.push()
    change(origin, "value: there")
    with pytest.raises(CheckError, match=r"both changed params\.yaml; merge .* by hand"):
        prepare(tmp_path)
    assert workspace.git_dirty() == []


def test_what_a_killed_run_left_is_dropped(clone: Path, tmp_path: Path) -> None:
    commit = run_once()
    Path("dvc.lock").write_text("half")
    Path("params.yaml").write_text("half")
    Path("left.json").write_text("half")
    repository.unsettle()
    Path("data/photos").unlink()
    Path("data/photos").write_text("half")
    for lock in ("index.lock", "config.lock", "refs/heads/retrain.lock"):
        Path(".git", lock).touch()
    assert prepare(tmp_path) == commit
    assert (workspace.git_dirty(), workspace.changed(["set"])) == ([], {})


def test_a_tag_that_was_moved_is_moved_here(origin: Path, clone: Path, tmp_path: Path) -> None:
    git(origin, "tag", "stable")
    prepare(tmp_path)
    change(origin, "value: two")
    git(origin, "tag", "--force", "stable")
    prepare(tmp_path)
    assert git(clone, "rev-parse", "stable") == git(origin, "rev-parse", "stable")


def test_a_password_in_the_address_is_the_owners_alone(clone: Path) -> None:
    assert (clone / ".git/config").stat().st_mode & 0o777 == 0o600


def test_a_clone_that_was_cut_off_is_made_anew(origin: Path, tmp_path: Path) -> None:
    (tmp_path / "clone/.git").mkdir(parents=True)
    assert prepare(tmp_path) == git(origin, "rev-parse", "main")


def test_a_repository_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="git clone"):
        prepare(tmp_path)


def test_a_persons_version_outlives_a_squash_merge(
    origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(origin)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "none"))  # git knows no name
    git(origin, "checkout", "--quiet", "-b", "work")
    commits = []
    for number in (1, 2):
        change(origin, f"value: {number}")
        commits.append(git(origin, "rev-parse", "HEAD"))
    repository.pin("m", 1, commits[0])
    git(origin, "checkout", "--quiet", "main")
    git(origin, "merge", "--quiet", "--squash", "work")
    git(origin, "commit", "--quiet", "-m", "squashed")
    git(origin, "branch", "--quiet", "-D", "work")
    git(origin, "reflog", "expire", "--expire=now", "--all")
    git(origin, "gc", "--quiet", "--prune=now")
    assert [history.has_commit(origin, commit) for commit in commits] == [True, False]
    assert history.refs_to(origin, commits[0]) == ["refs/tags/local/model/m/v1"]


def test_a_persons_tag_stays_where_its_number_counts(origin: Path, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--bare", "shared")
    git(tmp_path, "clone", "--quiet", "origin", "person")
    person = tmp_path / "person"
    with chdir(person):
        repository.pin("m", 1, git(person, "rev-parse", "HEAD"))
    git(person, "push", "--quiet", "--follow-tags", str(tmp_path / "shared"), "main")
    assert git(tmp_path / "shared", "tag") == ""


def test_a_push_that_is_refused_is_not_for_another_try(
    origin: Path, clone: Path, tmp_path: Path
) -> None:
    git(origin, "checkout", "--quiet", "-b", "retrain")
    change(origin, "value: two")
    git(origin, "checkout", "--quiet", "main")
    with pytest.raises(InputError, match=r"^git push --quiet: ! \[rejected\]"):
        repository.push()
    git(origin, "branch", "--quiet", "-D", "retrain")
    hook = origin / ".git/hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho protected >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(InputError, match="hook declined"):
        repository.push()
    origin.rename(tmp_path / "away")
    with pytest.raises(UnavailableError, match="git push"):
        repository.push()
