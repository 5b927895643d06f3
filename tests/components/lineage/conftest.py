"""One small project with two registered versions, built once a session."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import lineage_support as support
import pytest


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project; not to be changed. Workers that run at once share one."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    root = shared / "lineage-project"
    with open(shared / "lineage-project.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "lineage-project.built").exists():
            shutil.rmtree(root, ignore_errors=True)
            root.mkdir()
            support.build(root)
            (shared / "lineage-project.built").touch()
    return root


@pytest.fixture
def standing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Makes a project the workspace that we stand in."""

    def stand(root: Path) -> None:
        monkeypatch.chdir(root)
        monkeypatch.setenv("IML_STATE", str(root / ".state"))

    return stand


@pytest.fixture
def copied(project: Path, tmp_path: Path, standing: Callable[[Path], None]) -> Iterator[Path]:
    """A copy of the project that may be broken; we stand in it."""
    root = support.copy(project, tmp_path / "copy")
    standing(root)
    yield root
    shutil.rmtree(root, ignore_errors=True)
