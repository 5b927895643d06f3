"""Bundles: the same audit elsewhere, with the network off; and archives that mean harm."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import lineage_support as support
import pytest

from components.core.errors import CheckError, InputError
from components.core.files import sha256_json
from components.lineage import bundle
from components.lineage.audit import audit
from components.lineage.bundle import evidence_of, export
from components.lineage.collect import collect
from components.lineage.replay import replay
from components.lineage.verdict import Verdict
from components.registry.chain import digest
from components.workspace import history

ONE = f"{support.MODEL}/1"


@pytest.fixture(scope="module")
def bundles(project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Version 1 with and without its photos."""
    folder = tmp_path_factory.mktemp("bundles") / "not/there/yet"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        patch.setenv("IML_STATE", str(project / ".state"))
        with collect(ONE) as evidence:
            whole = export(evidence, folder / "whole.tar", photos=True)
            light = export(evidence, folder / "light.tar", photos=False)
    assert whole["left_out"] == 0
    assert light["objects"] + light["left_out"] == whole["objects"]
    return {"whole": folder / "whole.tar", "light": folder / "light.tar"}


def test_a_bundle_needs_nothing_but_the_trusted_key(
    project: Path, bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with evidence_of(str(bundles["whole"])) as evidence:
        unknown = audit(evidence, deep=True)
    doubtful = [f for f in unknown.findings if f.verdict != Verdict.VERIFIED]
    assert [(f.link, f.verdict) for f in doubtful] == [
        ("ledger", Verdict.UNVERIFIABLE),
        ("signature", Verdict.UNVERIFIABLE),
    ]
    monkeypatch.setenv("IML_TRUSTED_KEYS", str(project / ".state/keys/trusted"))
    for address in ("MLFLOW_TRACKING_URI", "IML_LEDGER_URL"):
        monkeypatch.setenv(address, "postgresql://nobody@127.0.0.1:9/none")
    with evidence_of(str(bundles["whole"])) as evidence:
        answer = audit(evidence, deep=True)
    assert answer.verdict == Verdict.VERIFIED, answer.sentence()
    assert answer.objects > 50


def test_a_bundle_without_photos_says_what_it_lacks(
    project: Path, bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IML_TRUSTED_KEYS", str(project / ".state/keys/trusted"))
    with evidence_of(str(bundles["light"])) as evidence:
        answer = audit(evidence, deep=True)
    lacking = [f for f in answer.findings if f.verdict != Verdict.VERIFIED]
    assert [f.link for f in lacking] == ["data"]
    assert "objects are missing" in lacking[0].what
    assert answer.exit_code == 2


def test_a_bundle_that_was_changed(
    project: Path, bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IML_TRUSTED_KEYS", str(project / ".state/keys/trusted"))
    with tarfile.open(bundles["light"]) as archive:
        archive.extractall(tmp_path / "open", filter="data")
    ledger = tmp_path / "open/ledger.json"
    ledger.write_text(ledger.read_text().replace("all ", "none of "))
    with tarfile.open(tmp_path / "changed.tar", "w") as archive:
        for path in sorted((tmp_path / "open").iterdir()):
            archive.add(path, path.name)
    with evidence_of(str(tmp_path / "changed.tar")) as evidence:
        answer = audit(evidence)
    assert answer.exit_code == 1
    assert "was edited" in answer.sentence()


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"hello" * 1000)
    with pytest.raises(InputError, match="not a bundle"), evidence_of(str(tmp_path / "x.tar")):
        pass


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


def sparse() -> tarfile.TarInfo:
    """Four gigabytes of zeros in no byte of the archive."""
    made = member("version/big")
    made.pax_headers = {
        "GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": "version/big",
        "GNU.sparse.size": str(4 << 30), "GNU.sparse.map": f"{4 << 30},0",
        "GNU.sparse.numblocks": "1",
    }  # fmt: skip
    return made


@pytest.mark.parametrize(
    "hostile",
    [
        member("../../evidence.json"),
        member("/tmp/evidence.json"),
        member("version/lineage", tarfile.SYMTYPE, "/etc"),
        member("version/lineage", tarfile.SYMTYPE, "../ledger.json"),
        member("version/lineage", tarfile.LNKTYPE, "case.json"),
        member("version/pipe", tarfile.FIFOTYPE),
        member("version/disk", tarfile.BLKTYPE),
        sparse(),
    ],
    ids=lambda made: f"{made.name} {made.type.decode()}{made.linkname}",
)
def test_what_no_bundle_of_ours_holds_is_refused(tmp_path: Path, hostile: tarfile.TarInfo) -> None:
    (tmp_path / "case.json").write_text("{}")
    with tarfile.open(tmp_path / "evil.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(tmp_path / "case.json", "case.json")
        archive.addfile(hostile)
    with pytest.raises(InputError, match="not a bundle"), evidence_of(str(tmp_path / "evil.tar")):
        pass


def test_a_bundle_without_end_or_room_is_refused(
    tmp_path: Path, bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(bundle, "_MEMBERS", 20)
        with pytest.raises(InputError, match="one too many"), evidence_of(str(bundles["light"])):
            pass
    with open(tmp_path / "huge.tar", "wb") as file:
        file.truncate(shutil.disk_usage("/tmp").free + (1 << 40))
    with pytest.raises(InputError, match="set TMPDIR"), evidence_of(str(tmp_path / "huge.tar")):
        pass


def test_a_commit_that_unpacks_to_more_than_it_may(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = support.run(project, "git", "rev-parse", f"model/{support.MODEL}/v1").strip()
    assert "params.yaml" in history.tree(project, tag)
    monkeypatch.setattr(history, "_TREE", 100_000)
    with pytest.raises(CheckError, match="its files are more than"):
        history.tree(project, tag)


def test_a_repository_that_is_a_folder_is_not_cloned(
    project: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    with tarfile.open(bundles["light"]) as archive:
        archive.extractall(tmp_path / "open", filter="data")
    (tmp_path / "open/repository.bundle").unlink()
    shutil.copytree(project / ".git", tmp_path / "open/repository.bundle")
    with tarfile.open(tmp_path / "folder.tar", "w") as archive:
        for path in sorted((tmp_path / "open").iterdir()):
            archive.add(path, path.name)
    with evidence_of(str(tmp_path / "folder.tar")) as evidence:
        assert evidence.repository is None


def hostile_bundle(folder: Path, bundle: Path, record: dict[str, Any]) -> str:
    """A bundle as a stranger may forge it without a key: his record under his own ledger row."""
    with tarfile.open(bundle) as archive:
        archive.extractall(folder, filter="data")
    (folder / "version/lineage/record.json").write_text(json.dumps(record))
    facts = {"record_sha256": sha256_json(record), "files": {}, "tags": {}}
    (first, *_) = json.loads((folder / "ledger.json").read_text())
    row = {**first, "evidence": json.dumps(facts)}
    (folder / "ledger.json").write_text(json.dumps([{**row, "hash": digest(row)}]))
    with tarfile.open(f"{folder}.tar", "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name)
    return f"{folder}.tar"


@pytest.mark.parametrize("commit", ["--output={}", ["--output=x"], 7, None])
def test_a_strangers_bundle_writes_nowhere(
    bundles: dict[str, Path], tmp_path: Path, commit: object
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("dear")
    if isinstance(commit, str):
        commit = commit.format(victim)
    record = {"schema": 2, "git": {"commit": commit, "clean": True, "dirty": []}}
    hostile = hostile_bundle(tmp_path / "evil", bundles["light"], record)
    with evidence_of(hostile) as evidence:
        assert evidence.record is not None
        with pytest.raises(CheckError, match="registered without a signature"):
            replay(evidence, tmp_path / "clone", lambda line: None)
        answer = audit(evidence, deep=True)
    assert answer.exit_code == 1
    assert any("commit is not in the git" in f.what for f in answer.findings)
    assert victim.read_text() == "dear"


def test_a_broken_record_is_not_bundled(copied: Path, tmp_path: Path) -> None:
    with collect(ONE) as evidence:
        path = evidence.files / "lineage/record.json"
        path.write_text(path.read_text().replace("{", "{ ", 1).replace("made", "make", 1))
        with pytest.raises(CheckError, match="record is missing or broken"):
            export(evidence, tmp_path / "x.tar", photos=False)
