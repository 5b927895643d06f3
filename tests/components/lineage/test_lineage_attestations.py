"""Attestations in an audit: there where the ledger says so, and of this version's record."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import lineage_support as support
import pytest
from typer.testing import CliRunner

from components.core.files import read_json, sha256_file, write_json
from components.lineage.audit import check
from components.lineage.bundle import evidence_of, export
from components.lineage.collect import collect
from components.lineage.evidence import Evidence
from components.lineage.verdict import Finding, Verdict
from components.registry import attestations, layout, signing
from components.registry.chain import Event, digest
from flows.cli.main import app

ONE = f"{support.MODEL}/1"
Edit = Callable[[dict[str, Any]], Any]


@pytest.fixture
def one(project: Path, standing: Callable[[Path], None]) -> Iterator[Evidence]:
    standing(project)
    with collect(ONE) as evidence:
        yield evidence


def faults(link: str, evidence: Evidence) -> list[Finding]:
    return [finding for finding in check(link, evidence) if finding.fault]


def with_facts(evidence: Evidence, event: str, **changed: Any) -> Evidence:
    """The evidence with other facts (None: without) in its last such row, as if appended so."""
    rows = list(evidence.rows)
    number = max(n for n, row in enumerate(rows) if (row.event, row.version) == (event, 1))
    facts = {**rows[number].facts(), **changed}
    kept = {name: facts[name] for name in facts if changed.get(name, "") is not None}
    row = replace(rows[number], evidence=json.dumps(kept))
    rows[number] = replace(row, hash=digest(asdict(row)))
    return replace(evidence, rows=rows)


def resealed(evidence: Evidence, folder: Path, edit: Edit) -> Evidence:
    """The evidence with an edited provenance that its own signer signed and registered."""
    statement = provenance(evidence)
    edit(statement)
    write_json(folder / layout.PROVENANCE, attestations.sealed(statement))
    (folder / layout.SIGNATURE).write_bytes(evidence.signature.read_bytes())
    digest = sha256_file(folder / layout.PROVENANCE)
    changed = with_facts(evidence, Event.REGISTERED, provenance_sha256=digest)
    return replace(changed, signature=folder / layout.SIGNATURE)


def provenance(evidence: Evidence) -> dict[str, Any]:
    mark = evidence.facts[layout.SIGNER]
    return attestations.opened(read_json(evidence.provenance), mark, signing.trusted(mark))


def test_it_names_what_the_version_was_made_of(one: Evidence) -> None:
    assert faults("signature", one) == faults("gates", one) == []
    built = provenance(one)["predicate"]["buildDefinition"]
    found = {material["name"]: material["digest"] for material in built["resolvedDependencies"]}
    (out,) = one.record["datasets"]["made"]["dvc"]["outs"]
    assert found["data set made"] == {"md5": out["md5"].removesuffix(".dir")}
    assert found["git commit"] == {"gitCommit": one.record["git"]["commit"]}
    assert built["externalParameters"]["params.yaml"]["distill.epochs"] == 1


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (lambda s: s["predicate"]["buildDefinition"]["resolvedDependencies"].pop(), "resolved"),
        (lambda s: s["subject"][0]["digest"].update(sha256="0" * 64), "files"),
        (lambda s: s["predicate"]["runDetails"]["metadata"].update(invocationId="x"), "run id"),
    ],
)
def test_one_that_says_something_else_is_broken(
    one: Evidence, tmp_path: Path, edit: Edit, what: str
) -> None:
    (fault,) = faults("signature", resealed(one, tmp_path, edit))
    assert fault.verdict == Verdict.BROKEN
    assert what in fault.where
    assert layout.PROVENANCE in fault.where


def test_a_form_of_another_program_is_unverifiable(one: Evidence, tmp_path: Path) -> None:
    def edit(statement: dict[str, Any]) -> None:
        statement["predicate"]["buildDefinition"]["buildType"] = "urn:boxpromptiml:pipeline:9"

    (fault,) = faults("signature", resealed(one, tmp_path, edit))
    assert (fault.verdict, "pipeline:9" in fault.what) == (Verdict.UNVERIFIABLE, True)


def test_a_result_that_its_row_contradicts_is_broken(one: Evidence) -> None:
    row = next(row for row in one.own_rows if row.event == Event.GATED)
    facts = row.facts()
    statement = attestations.test_result(one.facts, {**facts, "thresholds": {}})
    wrong = with_facts(one, Event.GATED, test_result=attestations.sealed(statement))
    assert [f.where.split(" ")[-1] for f in faults("gates", wrong)][:1] == ["configuration"]
    other = {**facts[layout.TEST_RESULT], "signatures": [{"keyid": "0" * 64, "sig": ""}]}
    broken = faults("gates", with_facts(one, Event.GATED, test_result=other))
    assert [f.what for f in broken][:1] == ["was not signed by the key that signed the version"]


def test_versions_from_before_are_asked_for_none(one: Evidence) -> None:
    before = with_facts(one, Event.REGISTERED, provenance_sha256=None)
    before = with_facts(before, Event.GATED, test_result=None)
    now = [f for link in ("signature", "gates") for f in check(link, one)]
    then = [f for link in ("signature", "gates") for f in check(link, before)]
    assert len(now) - len(then) == 4
    assert "provenance" not in " ".join(f.line() for f in then)


def test_a_bundle_has_them_and_they_are_exported_alone(one: Evidence, tmp_path: Path) -> None:
    export(one, tmp_path / "one.tar", photos=False)
    with evidence_of(str(tmp_path / "one.tar")) as evidence:
        assert faults("signature", evidence) == []
        assert evidence.provenance.read_bytes() == one.provenance.read_bytes()
    out = tmp_path / "one.intoto.jsonl"
    done = CliRunner().invoke(app, ["lineage", "export", ONE, "--attestations", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert f"{ONE}: 2 attestations in " in done.output
    made = [json.loads(line) for line in out.read_text().splitlines()]
    assert made[0] == read_json(one.provenance)
    key = signing.trusted(one.facts[layout.SIGNER])
    assert [attestations.opened(e, key.stem, key)["predicateType"] for e in made] == [
        attestations.PROVENANCE_TYPE, attestations.TEST_RESULT_TYPE
    ]  # fmt: skip
