"""Audits of one project: what they say, and where evidence is missing."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import corruptions_remote
import corruptions_version
import lineage_support as support
import pytest
from browsers import Pages
from corruptions_base import flip, sql
from project import BIN

from components.core.errors import InputError
from components.core.files import sha256_file
from components.lineage.audit import CHECKS, audit, check, render
from components.lineage.collect import collect
from components.lineage.evidence import Evidence
from components.lineage.verdict import LINKS, Finding, Verdict, broken, missing, verified
from components.registry import row_signatures, signing
from components.registry.alias import reconcile
from components.registry.chain import Row, digest
from components.registry.versions import Registry

ONE = f"{support.MODEL}/1"
Stand = Callable[[Path], None]


def test_every_link_has_its_check() -> None:
    assert list(CHECKS) == list(LINKS)


def test_the_answer_as_json_and_as_a_page(project: Path, standing: Stand) -> None:
    standing(project)
    with collect(f"{support.MODEL}@champion") as evidence:
        answer = audit(evidence)
        assert evidence.version == 1
    said = json.loads(json.dumps(answer.row()))
    assert list(said["links"]) == list(LINKS)
    assert {link["verdict"] for link in said["links"].values()} == {"verified"}
    assert said["deep"] is False
    unseen = "photos and outputs not hashed: --deep"
    assert said["left_out"] == unseen
    assert said["sentence"] == f"{ONE} is verified: all {len(LINKS)} links hold; {unseen}."
    page = render(answer)
    assert page.count(unseen) == 2
    assert page.count("<rect") == len(LINKS)
    assert "http://" not in page
    assert "https://" not in page


def test_text_from_outside_cannot_change_the_page(
    project: Path, standing: Stand, tmp_path: Path, browse: Pages
) -> None:
    standing(project)
    with collect(ONE) as evidence:
        answer = audit(evidence)
    hostile = broken("was changed", "<script>alert(1)</script>", "<b>", "</table>")
    page = render(replace(answer, findings=[replace(hostile, link="data")]))
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    (tmp_path / "audit.html").write_text(render(answer))
    assert browse.fits(tmp_path / "audit.html")


@pytest.mark.parametrize(
    ("findings", "code"),
    [
        ([verified("x")], 0),
        ([verified("x"), missing("y")], 2),
        ([missing("y"), broken("z")], 1),
        ([], 2),
    ],
)
def test_exit_codes(project: Path, standing: Stand, findings: list, code: int) -> None:
    standing(project)
    with collect(ONE) as evidence:
        answer = replace(audit(evidence), findings=findings)
    assert answer.exit_code == code


def evaluation(evidence: Evidence) -> list[Finding]:
    return [f for f in CHECKS["evaluation"](evidence) if f.verdict != Verdict.VERIFIED]


def test_the_training_curve_is_the_stages_in_the_version_and_in_mlflow(copied: Path) -> None:
    with collect(ONE) as evidence:
        (said,) = [f for f in CHECKS["evaluation"](evidence) if "curve" in f.what]
        assert said.verdict == Verdict.VERIFIED
    sql(copied, "UPDATE latest_metrics SET value = value / 2 WHERE key = 'val_loss'")
    with collect(ONE) as evidence:
        (finding,) = evaluation(evidence)
    assert (finding.verdict, finding.where) == (Verdict.BROKEN, "MLflow val_loss")
    sql(copied, "DELETE FROM latest_metrics WHERE key = 'val_loss'")
    flip(corruptions_version.folder(copied) / "training/history.csv", random.Random(1))
    with collect(ONE) as evidence:
        changed, gone = evaluation(evidence)
    assert (changed.verdict, changed.where) == (Verdict.BROKEN, "MLflow training/history.csv")
    assert (gone.verdict, gone.where) == (Verdict.UNVERIFIABLE, "MLflow val_loss")


def test_a_version_from_before_curves_were_kept_is_still_verified(
    project: Path, standing: Stand, tmp_path: Path
) -> None:
    standing(project)
    with collect(ONE) as evidence:
        older = tmp_path / "older"
        shutil.copytree(evidence.files, older)
        (older / "training/history.csv").unlink()
        assert evidence.run is not None
        kept = {name: v for name, v in evidence.run.metrics.items() if name.startswith("made/")}
        assert len(kept) < len(evidence.run.metrics)
        before = replace(evidence, files=older, run=replace(evidence.run, metrics=kept))
        assert evaluation(before) == []
        # Its metrics without the file are another matter.
        (finding,) = evaluation(replace(evidence, files=older))
        assert finding.where == "MLflow training/history.csv"


def test_an_audit_changes_no_evidence(copied: Path) -> None:
    remote = copied / ".state/dvc-remote"
    changed = corruptions_remote.objects(copied)["data/made/photos/Au/Au3.png"]
    flip(changed, random.Random(1))

    def state() -> dict[Path, tuple[str, int]]:
        files = (path for path in remote.rglob("*") if path.is_file())
        return {path: (sha256_file(path), path.stat().st_mode) for path in files}

    before = state()
    for deep in (False, True):
        with collect(ONE) as evidence:
            answer = audit(evidence, deep=deep)
        assert state() == before
    (found,) = answer.of(Verdict.BROKEN)
    assert (found.link, found.where) == ("data", "data/made/photos/Au/Au3.png")
    assert "was changed" in found.what


@pytest.mark.parametrize(
    ("name", "link"),
    [
        ("runs/validate/report.html", "validation"),
        ("runs/evaluate/made/report.html", "evaluation"),
        ("runs/pseudo_label/masks", "data"),
        ("data/made", "data"),
    ],
)
def test_an_object_that_an_audit_cannot_read_is_said_once(
    copied: Path, name: str, link: str
) -> None:
    flip(corruptions_remote.objects(copied)[name], random.Random(2))
    for deep in (False, True):
        with collect(ONE) as evidence:
            answer = audit(evidence, deep=deep)
        (found,) = answer.of(Verdict.BROKEN)
        assert (found.link, found.where) == (link, name)
        has_all = any("the remote has all" in f.what for f in answer.findings)
        assert has_all == (link != "data")


def committed(case_of: str) -> list[Finding]:
    with collect(case_of) as evidence:
        return list(CHECKS["commit"](evidence))


def test_a_tag_may_stand_on_a_later_commit_with_the_same_lock_and_data(copied: Path) -> None:
    one, two = (f"model/{support.MODEL}/v{number}" for number in (1, 2))
    # The second version's own dvc.lock is committed after it was registered.
    who = ("git", "-c", "user.name=T", "-c", "user.email=t@example.org")
    support.run(copied, *who, "commit", "--quiet", "--allow-empty", "-m", "without dvc.lock")
    support.run(copied, "git", "tag", two)
    (finding,) = committed(f"{support.MODEL}/2")
    assert (finding.verdict, finding.where) == (Verdict.BROKEN, f"git tag {two}")
    assert "another dvc.lock" in finding.what
    support.commit(copied, "dvc.lock of the second run")
    support.run(copied, "git", "tag", "--force", two)
    assert [f.verdict for f in committed(f"{support.MODEL}/2")] == [Verdict.VERIFIED]
    # The first one's dvc.lock without its photos is not what it needs; nor is an earlier commit.
    support.run(copied, "git", "tag", "--force", one, f"{two}~2")
    (finding,) = committed(ONE)
    assert "another data/made.dvc" in finding.what
    support.run(copied, "git", "tag", "--force", one, f"{two}~4")
    (finding,) = committed(ONE)
    assert "not at a later one" in finding.what


def test_a_clock_that_went_back_is_remarked_on(
    project: Path, standing: Stand, tmp_path: Path
) -> None:
    standing(project)
    with collect(ONE) as evidence:
        rows = list(evidence.rows)
        early = [replace(row, time="2020-01-01T00:00:00+00:00") for row in rows[2:3]]
        chained: list[Row] = []
        for row in [*rows[:2], *early, *rows[3:]]:
            before = chained[-1].hash if chained else row.previous_hash
            row = replace(row, previous_hash=before)
            row = replace(row, hash=digest(asdict(row)))
            chained.append(row_signatures.sign(row, signing.signer()))
        head = f"{len(rows)}:{chained[-1].hash}"
        answer = audit(replace(evidence, rows=chained[: len(rows)], ledger_head=head))
    ledger = answer.row()["links"]["ledger"]
    assert ledger["verdict"] == "verified"
    assert answer.of(Verdict.REMARK) == [
        Finding(
            "ledger",
            Verdict.REMARK,
            "the clock went back between row 2 and row 3",
            f"ledger of {support.MODEL}",
        )
    ]
    assert "the clock went back" in render(answer)


def test_an_auditors_line_ends_change_nothing(copied: Path) -> None:
    support.run(copied, "git", "config", "core.autocrlf", "true")
    with collect(ONE) as evidence:
        answer = audit(evidence)
    assert [finding.line() for finding in answer.of(Verdict.BROKEN)] == []
    assert answer.exit_code == 0


def test_without_its_champion_in_mlflow_an_intact_version_is_verified(copied: Path) -> None:
    registry = Registry.open(support.MODEL)
    registry.store._client.delete_model_version(support.MODEL, "1")
    with collect(f"{support.MODEL}/2") as evidence:
        assert evidence.alias is None
        assert [f.verdict for f in CHECKS["alias"](evidence)] == [Verdict.BROKEN]
    reconcile(registry, writing=True)
    with collect(f"{support.MODEL}/2") as evidence:
        found = [*CHECKS["ledger"](evidence), *CHECKS["alias"](evidence)]
        assert [f.verdict for f in found] == [Verdict.VERIFIED] * 2
    with collect(ONE) as evidence:
        assert [f.verdict for f in CHECKS["version"](evidence)] == [Verdict.UNVERIFIABLE]


def test_an_unknown_version_is_one_line(project: Path, standing: Stand) -> None:
    standing(project)
    with pytest.raises(InputError, match="known versions: 1, 2"), collect(f"{support.MODEL}/9"):
        pass


def test_outside_git_and_dvc_the_rest_is_still_checked(
    project: Path, standing: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    standing(project)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with collect(ONE) as evidence:
        answer = audit(evidence, deep=True)
    assert answer.exit_code == 2
    assert not answer.of(Verdict.BROKEN)
    links = answer.row()["links"]
    good = {name for name, link in links.items() if link["verdict"] == "verified"}
    assert {"ledger", "alias", "version", "signature", "record"} <= good
    assert links["commit"]["verdict"] == links["data"]["verdict"] == "unverifiable"


@pytest.mark.parametrize("erased", [False, True])
def test_a_run_that_was_deleted_in_mlflow_is_named(copied: Path, erased: bool) -> None:
    store = Registry.open(support.MODEL).store
    version = store.versions(support.MODEL)[0]
    store._client.delete_run(version.run_id)
    if erased:
        command = [str(BIN / "mlflow"), "gc", "--backend-store-uri", store._uri]
        environment = {**os.environ, "MLFLOW_TRACKING_URI": store._uri}
        subprocess.run(command, env=environment, capture_output=True, check=True)
    with collect(f"{support.MODEL}/{version.version}") as evidence:
        (found,) = check("run", evidence)
        assert found.verdict == Verdict.UNVERIFIABLE
        assert found.what.endswith(f"or no run {version.run_id}")
        signed = check("signature", evidence)
    assert any("the signature is missing" in finding.what for finding in signed) == erased
    assert all(finding.verdict == Verdict.VERIFIED for finding in signed) != erased
