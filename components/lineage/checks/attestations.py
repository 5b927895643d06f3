"""Checks of a version's attestations: signed by its keys, and saying what record and ledger say.

Versions and gatings from before there were attestations have none, and nothing is asked of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from components.core.errors import EvidenceError
from components.core.files import read_json, sha256_file
from components.lineage.evidence import Evidence
from components.lineage.verdict import Finding, Pair, broken, compared, missing
from components.registry import attestations, layout, signing
from components.registry.chain import Row


def provenance(evidence: Evidence) -> Iterator[Finding]:
    """What made the version, where its row names such an attestation; its key is trusted."""
    facts, where = evidence.facts, f"MLflow {layout.PROVENANCE}"
    digest = facts.get(layout.PROVENANCE_HASH)
    if not digest:
        return
    if not evidence.provenance.is_file():
        yield missing("the attestation is missing", where)
        return
    found = sha256_file(evidence.provenance)
    if found != digest:
        yield broken("is not the registered one", where, digest, found)
        return
    try:
        envelope, key = read_json(evidence.provenance), signing.trusted(facts[layout.SIGNER])
        said = attestations.opened(envelope, facts[layout.SIGNER], key)
        definition = said["predicate"]["buildDefinition"]
        run_id = said["predicate"]["runDetails"]["metadata"]["invocationId"]
    except EvidenceError as error:
        yield broken(error.what, where)
        return
    yield from _subjects(said, facts, where, [("run id", facts["run_id"], run_id)])
    if definition.get("buildType") != attestations.BUILD_TYPE:
        yield missing(f"this program does not know {definition.get('buildType')!r:.80}", where)
    elif evidence.has_record:
        record = attestations.definition(evidence.record)
        pairs: list[Pair] = [(name, record[name], definition.get(name)) for name in record]
        yield from compared("parameters and materials are the record's", where, pairs)


def test_result(evidence: Evidence, row: Row) -> Iterator[Finding]:
    """What a gating found, where its row has such an attestation."""
    facts, where = row.facts(), f"ledger row {row.sequence} {layout.TEST_RESULT}"
    if layout.TEST_RESULT not in facts:
        return
    mark = row.signing_key or ""
    try:
        said = attestations.opened(facts[layout.TEST_RESULT], mark, signing.trusted(mark))
    except signing.UntrustedError:
        return  # which the ledger's check says
    except EvidenceError as error:
        yield broken(error.what, where)
        return
    yield from _subjects(said, evidence.facts, where, [])
    (rules, *_) = said["predicate"]["configuration"]
    if rules.get("uri") != attestations.GATES:
        yield missing(f"this program does not know {rules.get('uri')!r:.80}", where)
    else:
        again = attestations.test_result(evidence.facts, facts)["predicate"]
        pairs: list[Pair] = [(name, again[name], said["predicate"].get(name)) for name in again]
        yield from compared("says what its row says", where, pairs)


def _subjects(
    statement: Mapping[str, Any], facts: Mapping[str, Any], where: str, more: list[Pair]
) -> list[Finding]:
    found = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
    pairs: list[Pair] = [("files", facts["files"], found), *more]
    return compared("attests the version's files", where, pairs)
