"""Files of signed folders that were erased: absent with a tombstone, and only with one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from registry_support import RULES, evidence

from components.core.errors import CheckError
from components.core.files import sha256_file
from components.registry import gates, signing, tombstones
from components.registry.downloads import fetch, verified_copy
from components.registry.package import Package
from components.registry.promotion import decide_and_promote, register
from components.registry.tombstones import Tombstone
from components.registry.versions import Registry, registration

PHOTO = "a" * 64


def stone(files: dict[str, str]) -> Tombstone:
    return Tombstone(
        dataset="made", name_sha256="b" * 64, sha256=PHOTO, md5="c" * 32, size=9,
        objects=("c" * 32,), listings=(), files=files, versions={"m/1": "train"},
        reason="asked for", who="ann", when="2026-01-02T03:04:05+00:00",
    )  # fmt: skip


@pytest.fixture
def shown(
    registry: Registry,
    make_package: Callable[..., Package],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A version as earlier programs made them, with a sheet that shows photos; gives its file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sheet.png").write_bytes(b"pixels")
    package = replace(make_package(), files={"pictures/contact_sheet.png": tmp_path / "sheet.png"})
    register(registry, package, clean=True, actor="ann")
    decide_and_promote(registry, 1, evidence(None), RULES, actor="ann")
    (file,) = (tmp_path / "state/mlflow/artifacts").rglob("contact_sheet.png")
    return file


def test_an_erased_file_of_a_version_is_absent_by_tombstone(
    registry: Registry, shown: Path, tmp_path: Path
) -> None:
    files = {"m/1/pictures/contact_sheet.png": sha256_file(shown)}
    row = registration(registry.rows(), 1)
    shutil.copytree(tmp_path / "state/mlflow", tmp_path / "before")
    shown.unlink()
    with pytest.raises(CheckError, match=r"pictures/contact_sheet\.png is missing"):
        verified_copy(registry, row)
    path = tombstones.write(stone(files))
    registry.store.erase("m", 1, ["pictures/contact_sheet.png"], [path])
    path.unlink()  # another machine has no project: the one beside the signature is enough
    copy = verified_copy(registry, row)
    assert fetch("m/1").folder == copy / "artifacts"
    (copy / "artifacts/student.json").write_text("other")
    shutil.rmtree(copy / "artifacts")
    (student,) = (tmp_path / "state/mlflow/artifacts").rglob("student.json")
    student.unlink()
    with pytest.raises(CheckError, match=r"artifacts/student\.json.*missing"):
        verified_copy(registry, row)


def test_a_tombstone_excuses_no_change_and_no_addition(registry: Registry, shown: Path) -> None:
    row = registration(registry.rows(), 1)
    tombstones.write(stone({"m/1/pictures/contact_sheet.png": sha256_file(shown)}))
    shown.unlink()
    verified_copy(registry, row)
    shutil.rmtree("state/cache")
    added = shown.with_name("other.png")
    added.write_bytes(b"other")
    with pytest.raises(CheckError, match=r"other\.png|contact_sheet"):
        verified_copy(registry, row)


@pytest.mark.parametrize("change", ["reason", "name", "key", "text", "schema", "late"])
def test_a_tombstone_that_is_not_right_counts_for_nothing(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tombstones.write(stone({}))
    assert tombstones.read(path.parent).photos.keys() == {PHOTO}
    values = json.loads(path.read_text())
    if change == "name":
        path = path.rename(path.with_name("d" * 64 + ".json"))
    elif change == "text":
        path.write_text("{")
    elif change == "late":
        rules = signing.place(values["signing_key"]).with_suffix(".yaml")
        rules.write_text("valid_until: 2026-01-01T00:00:00Z")
    else:
        new = {"reason": "other", "key": "e" * 64, "schema": 2}[change]
        path.write_text(json.dumps({**values, {"key": "signing_key"}.get(change, change): new}))
    try:
        read = tombstones.read(path.parent)
    finally:
        signing.place(values["signing_key"]).with_suffix(".yaml").unlink(missing_ok=True)
    assert not read.valid
    (problem,) = read.problems.values()
    assert str(path) == problem.where
    assert isinstance(problem, signing.UntrustedError) == (change in ("key", "schema"))
    assert ("forged" in problem.what) == (change == "reason")


@pytest.mark.parametrize("count", [None, 0, 3])
def test_the_gate_of_erased_photos_is_there_if_the_rules_ask(count: int | None) -> None:
    found = gates.judge(1, evidence(None, erased=count), RULES)
    own = [gate for gate in found if gate.name == "no_erased_photos"]
    assert [(gate.value, gate.passed) for gate in own] == (
        [] if count is None else [(float(count), not count)]
    )
    assert gates.passed(found) == (count != 3)
