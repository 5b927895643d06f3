"""Audits of one project: what they say, of a bundle too, and where evidence is missing."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lineage_support as support
import pytest

from components.errors import CheckError, InputError
from components.lineage.audit import CHECKS, audit
from components.lineage.bundle import evidence, export
from components.lineage.gather import gather
from components.lineage.page import render
from components.lineage.verdict import LINKS, Verdict, broken, missing, verified

ONE = f"{support.MODEL}/1"
Stand = Callable[[Path], None]


def test_every_link_has_its_check() -> None:
    assert list(CHECKS) == list(LINKS)


def test_the_answer_as_json_and_as_a_page(project: Path, standing: Stand) -> None:
    standing(project)
    with gather(f"{support.MODEL}@champion") as case:
        answer = audit(case)
        assert case.version == 1
    said = json.loads(json.dumps(answer.row()))
    assert list(said["links"]) == list(LINKS)
    assert {link["verdict"] for link in said["links"].values()} == {"verified"}
    assert said["deep"] is False
    page = render(answer)
    assert page.count("<rect") == len(LINKS)
    assert "http://" not in page
    assert "https://" not in page


def test_text_from_outside_cannot_change_the_page(project: Path, standing: Stand) -> None:
    standing(project)
    with gather(ONE) as case:
        answer = audit(case)
    hostile = broken("data", "was changed", "<script>alert(1)</script>", "<b>", "</table>")
    page = render(replace(answer, findings=[hostile]))
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("findings", "code"),
    [
        ([verified("data", "x")], 0),
        ([verified("data", "x"), missing("data", "y")], 2),
        ([missing("data", "y"), broken("data", "z")], 1),
        ([], 2),
    ],
)
def test_exit_codes(project: Path, standing: Stand, findings: list, code: int) -> None:
    standing(project)
    with gather(ONE) as case:
        answer = replace(audit(case), findings=findings)
    assert answer.exit_code == code


def test_an_unknown_version_is_one_line(project: Path, standing: Stand) -> None:
    standing(project)
    with pytest.raises(InputError, match="known versions: 1, 2"), gather(f"{support.MODEL}/9"):
        pass


def test_outside_git_and_dvc_the_rest_is_still_checked(
    project: Path, standing: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    standing(project)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with gather(ONE) as case:
        answer = audit(case, deep=True)
    assert answer.exit_code == 2
    assert not answer.of(Verdict.BROKEN)
    links = answer.row()["links"]
    good = {name for name, link in links.items() if link["verdict"] == "verified"}
    assert {"ledger", "alias", "version", "signature", "record"} <= good
    assert links["commit"]["verdict"] == links["data"]["verdict"] == "unverifiable"


@pytest.fixture(scope="module")
def bundles(project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Version 1 with and without its photos."""
    folder = tmp_path_factory.mktemp("bundles")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        patch.setenv("IML_STATE", str(project / ".state"))
        with gather(ONE) as case:
            whole = export(case, folder / "whole.tar", photos=True)
            light = export(case, folder / "light.tar", photos=False)
    assert whole["left_out"] == 0
    assert light["objects"] + light["left_out"] == whole["objects"]
    return {"whole": folder / "whole.tar", "light": folder / "light.tar"}


def test_a_bundle_needs_nothing_but_the_trusted_key(
    project: Path, bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with evidence(str(bundles["whole"])) as case:
        unknown = audit(case, deep=True)
    assert [f.link for f in unknown.findings if f.verdict != Verdict.VERIFIED] == ["signature"]
    monkeypatch.setenv("IML_TRUSTED_KEYS", str(project / ".state/keys/trusted"))
    for address in ("MLFLOW_TRACKING_URI", "IML_LEDGER_URL"):
        monkeypatch.setenv(address, "postgresql://nobody@127.0.0.1:9/none")
    with evidence(str(bundles["whole"])) as case:
        answer = audit(case, deep=True)
    assert answer.verdict == Verdict.VERIFIED, answer.sentence()
    assert answer.objects > 50


def test_a_bundle_without_photos_says_what_it_lacks(
    project: Path, bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IML_TRUSTED_KEYS", str(project / ".state/keys/trusted"))
    with evidence(str(bundles["light"])) as case:
        answer = audit(case, deep=True)
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
    with evidence(str(tmp_path / "changed.tar")) as case:
        answer = audit(case)
    assert answer.exit_code == 1
    assert "was edited" in answer.sentence()


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"hello" * 1000)
    with pytest.raises(InputError, match="not a bundle"), evidence(str(tmp_path / "x.tar")):
        pass
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        (tmp_path / "case.json").write_text("{}")
        archive.add(tmp_path / "case.json", "../../case.json")
    with pytest.raises(InputError, match="not a bundle"), evidence(str(tmp_path / "evil.tar")):
        pass


def test_a_broken_record_is_not_bundled(copied: Path, tmp_path: Path) -> None:
    with gather(ONE) as case:
        path = case.files / "lineage/record.json"
        path.write_text(path.read_text().replace("{", "{ ", 1).replace("made", "make", 1))
        with pytest.raises(CheckError, match="record is missing or broken"):
            export(case, tmp_path / "x.tar", photos=False)
