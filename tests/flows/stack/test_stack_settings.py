"""Where the stack's state lies: outside the project, but where an earlier version left it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from flows.stack import settings


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder in git, in a shell without settings."""
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    monkeypatch.delenv("IML_STATE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    (root / "params.yaml").touch()
    (root / ".gitignore").write_text(".state\n")
    for command in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *command], check=True)
    return root


def test_cleaning_the_project_takes_no_state(project: Path, tmp_path: Path) -> None:
    made = settings.load_or_make()
    state = Path(made.environment["IML_STATE"])
    assert state.parent == tmp_path / "home/.local/state/boxpromptiml"
    assert made.folder == state / "stack"
    assert Path(made.environment["PREFECT_HOME"]) == state / "prefect"
    assert Path(".state/stack/environment").read_text() == made.file.read_text()
    subprocess.run(["git", "clean", "-ffdxq"], check=True)
    assert not Path(".state").exists()
    assert settings.load() == made
    assert settings.load_or_make() == made
    assert Path(".state/stack/environment").is_file()
    assert settings.load() == made  # now by the link


def test_a_stack_that_lies_in_the_project_stays_there(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("IML_STATE", str(project / ".state"))
        made = settings.load_or_make()
    assert made.folder == project / ".state/stack"
    assert settings.load_or_make() == made
    assert not Path(".state/stack").is_symlink()
    assert not (tmp_path / "home").exists()


def test_a_state_folder_that_is_named_is_used(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IML_STATE", str(tmp_path / "named"))
    assert settings.load_or_make().folder == tmp_path / "named/stack"
    assert not Path(".state").exists()


def test_a_link_that_leads_nowhere_is_mended(project: Path) -> None:
    made = settings.load_or_make()
    shutil.rmtree(made.folder.parent)
    assert settings.load() is None
    again = settings.load_or_make()
    assert again.folder == made.folder
    assert Path(".state/stack").resolve() == again.folder


def test_projects_of_one_name_have_a_stack_each(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = settings.home()
    other = tmp_path / "other/project"
    other.mkdir(parents=True)
    (other / "params.yaml").touch()
    monkeypatch.chdir(other)
    assert settings.home() != one
