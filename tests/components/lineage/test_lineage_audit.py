"""Audits of one project: what they say, and where evidence is missing."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import corruptions_remote
import lineage_support as support
import pytest
from corruptions_base import flip

from components.errors import InputError
from components.files import sha256_file
from components.lineage.audit import CHECKS, audit
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


def test_an_audit_changes_no_evidence(copied: Path) -> None:
    remote = copied / ".state/dvc-remote"
    changed = corruptions_remote.objects(copied)["data/made/photos/Au/Au3.png"]
    flip(changed, random.Random(1))

    def state() -> dict[Path, tuple[str, int]]:
        files = (path for path in remote.rglob("*") if path.is_file())
        return {path: (sha256_file(path), path.stat().st_mode) for path in files}

    before = state()
    for deep in (False, True):
        with gather(ONE) as case:
            answer = audit(case, deep=deep)
        assert state() == before
    (found,) = answer.of(Verdict.BROKEN)
    assert (found.link, found.where) == ("data", "data/made/photos/Au/Au3.png")
    assert "was changed" in found.what


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
