"""Lost state does not pass for a new project."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from components.core.errors import EvidenceError
from components.registry import beginning
from components.registry.package import Package
from components.registry.promotion import register
from components.registry.versions import Registry

WHO = ("git", "-c", "user.name=T", "-c", "user.email=t@example.org")


def git(*words: str) -> None:
    subprocess.run([*WHO, *words], check=True, capture_output=True)


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, addresses: dict[str, str]
) -> dict[str, str]:
    """A git repository with one commit, an empty ledger and an empty store; we stand in it."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "-m", "one")
    return addresses


def test_a_new_project_may_begin(project: dict[str, str]) -> None:
    git("tag", "v1")
    git("tag", "model/other/v1")
    git("tag", "model/my/v1/x")
    beginning.check("m")


@pytest.mark.parametrize("place", ["local/", ""], ids=["own", "published"])
def test_tags_without_a_ledger_are_refused_in_one_line(project: dict[str, str], place: str) -> None:
    for number in (9, 10):
        git("tag", f"{place}model/m/v{number}")
    with pytest.raises(EvidenceError) as caught:
        beginning.check("m")
    line = caught.value.line()
    assert f"the ledger has no row of m, but git has the tag {place}model/m/v10" in line
    assert "IML_STATE" in line
    over = line.partition("on purpose: ")[2]
    subprocess.run(over, shell=True, check=True)
    beginning.check("m")


def test_a_deployment_does_not_count_a_person_s_own_versions(project: dict[str, str]) -> None:
    git("tag", "local/model/m/v1")
    beginning.check("m", published=True)
    with pytest.raises(EvidenceError, match="local/model/m/v1"):
        beginning.check("m")
    git("tag", "--annotate", "-m", "x", "model/m/v2")
    with pytest.raises(EvidenceError, match="model/m/v2"):
        beginning.check("m", published=True)


def test_a_store_that_has_seen_a_ledger_is_refused(
    project: dict[str, str],
    registry: Registry,
    make_package: Callable[..., Package],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    register(registry, make_package(), clean=True, actor="ann")
    git("tag", "model/m/v1")
    beginning.check("m")  # the ledger is where it should be
    git("tag", "--delete", "model/m/v1")
    monkeypatch.setenv("IML_LEDGER_URL", f"sqlite:///{tmp_path}/new.db")
    with pytest.raises(EvidenceError, match=r"new\.db: .* has seen its row 1; .*IML_STATE"):
        beginning.check("m")


def test_an_interrupted_first_registration_may_be_completed(
    project: dict[str, str], registry: Registry, make_package: Callable[..., Package]
) -> None:
    registry.store.register("m", make_package())  # killed before the ledger's row
    beginning.check("m")
