"""A version whose stages, parameters, paths and columns have other names than today's."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import lineage_support as support
import pyarrow as pa
import pyarrow.parquet as pq

from components.core.files import canonical_json, sha256_json
from components.lineage import photos
from components.lineage.audit import check
from components.lineage.collect import collect
from components.lineage.difference import explain
from components.lineage.evidence import Evidence
from components.lineage.record import LAYOUT, SCHEMA
from components.lineage.verdict import Finding, Verdict
from components.registry import attestations
from components.registry.chain import Event, Row, digest
from components.registry.layout import TEST_RESULT

# Links that read the record by its names, and no commit.
LINKS = ("data", "teacher", "backbone", "validation", "evaluation", "gates", "record")
RENAMED = {
    "runs/prepare/": "out/prepared/",
    "runs/evaluate/": "out/scores/",
    "runs/export/": "out/exported/",
    '"name": "validate"': '"name": "check"',
    '"validation": "validate"': '"validation": "check"',
    "prepare.datasets": "prepare.data_sets",
    "pseudo_label.teacher": "labels.teacher",
    '"pseudo_label": {': '"labels": {',
}
Record = dict[str, Any]


@contextmanager
def with_record(folder: Path, change: Callable[[Record], Record]) -> Iterator[Evidence]:
    """Version 1 as if it had been registered with another record."""
    with collect(f"{support.MODEL}/1") as evidence:
        files = folder / "version"
        shutil.copytree(evidence.files, files)
        record = change(json.loads((files / "lineage/record.json").read_text()))
        (files / "lineage/record.json").write_text(json.dumps(record))
        before, after = evidence.facts["record_sha256"], sha256_json(record)
        rows: list[Row] = []
        hashes: dict[str, str] = {before: after}
        for row in evidence.rows:
            text = row.evidence
            for old, new in hashes.items():
                text = text.replace(old, new)
            if row.event == Event.GATED:
                facts = json.loads(text)
                result = attestations.test_result(evidence.facts, facts)
                facts[TEST_RESULT] = attestations.sealed(result)
                text = canonical_json(facts).decode()
            new_row = replace(row, evidence=text)
            new_row = replace(new_row, hash=digest(asdict(new_row)))
            hashes[row.hash] = new_row.hash
            rows.append(new_row)
        yield replace(evidence, files=files, rows=rows)


def faults(evidence: Evidence) -> list[Finding]:
    return [finding for link in LINKS for finding in check(link, evidence) if finding.fault]


def renamed(record: Record) -> Record:
    text = json.dumps(record)
    for old, new in RENAMED.items():
        assert old in text, old
        text = text.replace(old, new)
    return json.loads(text)


def test_new_records_carry_their_names(project: Path, standing: Callable[[Path], None]) -> None:
    standing(project)
    with collect(f"{support.MODEL}/1") as evidence:
        assert evidence.record["schema"] == SCHEMA == 5
        assert evidence.record["layout"] == LAYOUT


def test_a_version_with_other_names_is_audited_shown_and_compared(
    project: Path, standing: Callable[[Path], None], tmp_path: Path
) -> None:
    standing(project)
    with (
        with_record(tmp_path, renamed) as one,
        collect(f"{support.MODEL}/1") as same,
        collect(f"{support.MODEL}/2") as two,
    ):
        assert (one.datasets, one.gate_dataset) == (["made"], "made")
        assert [finding.line() for finding in faults(one)] == []
        assert photos.rows(one) == photos.rows(same)
        changes = explain(one, two)
        assert len(changes["data"]) == 1, changes
        assert not any("cannot be compared" in line for lines in changes.values() for line in lines)


def test_a_newer_schema_without_a_shape_we_know_is_unverifiable(
    project: Path, standing: Callable[[Path], None], tmp_path: Path
) -> None:
    def newer(record: Record) -> Record:
        validation = {"answer": record.pop("validation")}
        return {**record, "schema": SCHEMA + 1, "verdicts": validation}

    standing(project)
    with with_record(tmp_path, newer) as evidence:
        found = faults(evidence)
    assert {finding.verdict for finding in found} == {Verdict.UNVERIFIABLE}
    assert {finding.link for finding in found} == {"record", "validation", "gates"}
    assert any(f"has schema {SCHEMA + 1}" in finding.what for finding in found)


def table(root: Path, record: Record, path: str, change: Callable[[pa.Table], pa.Table]) -> Record:
    """The record with another table at a path, which the remote holds."""
    text = json.dumps(record)
    outs = [row for stage in record["stages"] for row in stage["outs"]]
    old = next(row["md5"] for row in outs if row["path"] == path)
    objects = root / ".state/dvc-remote/files/md5"
    buffer = io.BytesIO()
    pq.write_table(change(pq.read_table(objects / old[:2] / old[2:])), buffer)
    new = hashlib.md5(buffer.getvalue()).hexdigest()
    (objects / new[:2]).mkdir(exist_ok=True)
    (objects / new[:2] / new[2:]).write_bytes(buffer.getvalue())
    return json.loads(text.replace(old, new))


MANIFEST = "runs/prepare/manifest.parquet"


def test_tables_are_read_by_the_columns_that_are_needed(copied: Path, tmp_path: Path) -> None:
    def other(found: pa.Table) -> pa.Table:
        more = found.append_column("camera", pa.nulls(len(found), pa.string()))
        return more.drop_columns(["phash", "width", "kind", "source", "group"])

    def change(record: Record) -> Record:
        return table(copied, record, MANIFEST, other)

    with with_record(tmp_path, change) as evidence:
        assert {finding.where for finding in faults(evidence)} == {
            "MLflow model lineage/manifest.parquet"  # the version's copy is the one of before
        }
        assert {row["source"] for row in photos.rows(evidence)} == {None}


def test_a_table_that_lacks_a_needed_column_is_unverifiable(copied: Path, tmp_path: Path) -> None:
    def change(record: Record) -> Record:
        return table(copied, record, MANIFEST, lambda found: found.drop_columns(["sha256"]))

    with with_record(tmp_path, change) as evidence:
        (found,) = faults(evidence)
    assert (found.verdict, found.link, found.where) == (Verdict.UNVERIFIABLE, "data", MANIFEST)
    assert found.what == "this program needs column 'sha256'"
