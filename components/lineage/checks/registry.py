"""Checks of what the registry holds: ledger, alias, version, signature, run, record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from components.core.errors import EvidenceError, ImlError
from components.core.files import sha256_file, sha256_json
from components.lineage.checks import attestations
from components.lineage.evidence import Evidence
from components.lineage.record import SCHEMA, is_known
from components.lineage.verdict import Finding, Pair, broken, compared, missing, remark, verified
from components.registry import chain, checkpoints, layout, row_signatures, signing
from components.registry.chain import Event, LedgerHead, Row
from components.registry.layout import (
    IDENTITY,
    PROVENANCE_HASH,
    RECORD_HASH,
    SIGNATURE_HASH,
    SIGNER,
)

_NOTED = (IDENTITY, RECORD_HASH, SIGNATURE_HASH, SIGNER, PROVENANCE_HASH)  # tags of a version too
_NO_ROW = "depends on its row in the ledger, which is missing or broken"


def ledger(evidence: Evidence) -> list[Finding]:
    """Every row's hash, the chain of them, who signed them; its end as MLflow and others saw it."""
    where, rows = f"ledger of {evidence.model}", evidence.rows
    if not rows:
        return [missing("has no rows", where)]
    try:
        problems = chain.problems(rows, LedgerHead.parse(evidence.ledger_head))
    except (TypeError, ValueError) as error:
        problems = [f"a row cannot be read ({error})"]
    found = [broken(what, where) for what in problems] or [
        *(_finding(fault, where) for fault in row_signatures.problems(rows)),
        *_checkpoints(evidence),
    ]
    if evidence.ledger_head is None:
        found.append(missing("MLflow has no note of the ledger's last row", where))
    if (evidence.version, Event.REGISTERED) not in [(row.version, row.event) for row in rows]:
        found.append(missing(f"no row registers version {evidence.version}", where))
    signed = sum(row.signing_key is not None for row in rows)
    seen = [evidence.checkpoints, evidence.witnesses]
    count = sum(len(kept or {}) for kept in seen)
    what = f"{len(rows)} rows, hash chain and its end; {signed} signatures; {count} checkpoints"
    remarks = (*_newest(evidence, where), *_clock(rows, where))
    return [*(found or [verified(what, where)]), *remarks]


def _checkpoints(evidence: Evidence) -> Iterator[Finding]:
    for kept in (evidence.checkpoints or {}, evidence.witnesses):
        for place, fault in checkpoints.problems(evidence.rows, kept):
            yield _finding(fault, place)


def _newest(evidence: Evidence, where: str) -> Iterator[Finding]:
    """The last row's checkpoint is the last command's to write, or was removed."""
    rows, kept = evidence.rows, evidence.checkpoints
    if kept is not None and not any(checkpoints.is_of(len(rows), text) for text in kept.values()):
        yield remark(f"there is no checkpoint of all {len(rows)} rows", where)


def _finding(fault: EvidenceError, where: str) -> Finding:
    return (missing if isinstance(fault, signing.UntrustedError) else broken)(fault.what, where)


def _clock(rows: Sequence[Row], where: str) -> Iterator[Finding]:
    """Rows are in the order of their hashes; a time before that of the row above is remarked on."""
    for before, row in pairwise(rows):
        with suppress(TypeError, ValueError):  # no time: then the row was edited
            if datetime.fromisoformat(row.time) < datetime.fromisoformat(before.time):
                sequences = f"row {before.sequence} and row {row.sequence}"
                yield remark(f"the clock went back between {sequences}", where)


def alias(evidence: Evidence) -> list[Finding]:
    """MLflow's alias against the champion that the ledger names."""
    champion, where = chain.champion(evidence.rows), f"{evidence.model}@champion"
    if evidence.alias == champion:
        return [verified(f"points at version {champion}, as the ledger says", where)]
    if champion and evidence.alias is None and chain.withdrawn(evidence.rows, champion):
        return [verified(f"is not set: MLflow has lost champion {champion}, as recorded", where)]
    what = "does not point at the ledger's champion"
    return [broken(what, where, champion, evidence.alias)]


def version(evidence: Evidence) -> Iterator[Finding]:
    """The version's run and tags, and the model's files, against the ledger's row."""
    facts, run = evidence.facts, evidence.run
    if not facts:
        yield missing(_NO_ROW)
    elif run is None:
        yield missing(evidence.no_run, evidence.name)
    elif not any(evidence.files.iterdir()):
        yield missing("MLflow has no files of the model", evidence.name)
    else:
        tags = {
            **facts["tags"],
            **{name: facts.get(name) for name in _NOTED},
            "weights_sha256": facts["files"]["student.safetensors"],
        }
        pairs: list[Pair] = [("run id", facts["run_id"], run.run_id)]
        pairs += [
            (f"tag {name}", value, run.version_tags.get(name)) for name, value in tags.items()
        ]
        yield from compared("run id and tags match the ledger", "MLflow version", pairs)
        files = {f"{layout.ARTIFACTS}/{name}": digest for name, digest in facts["files"].items()}
        pairs = [(name, digest, _sha256(evidence.files / name)) for name, digest in files.items()]
        yield from compared("files match the registration", "MLflow model", pairs)
        yield from _identity(evidence)


def _identity(evidence: Evidence) -> list[Finding]:
    """The version's identity, computed again from its files and dvc.lock."""
    if not evidence.has_record:
        return []
    files, record = evidence.facts["files"], evidence.record
    found = sha256_json({"files": files, "dvc_lock": record["dvc_lock"]["sha256"]})
    pairs: list[Pair] = [("identity", evidence.facts["identity"], found)]
    pairs += [(f"files {name}", h, record["files"].get(name)) for name, h in files.items()]
    return compared("identity and record agree with the ledger", "record", pairs)


def _sha256(path: Path) -> str | None:
    return sha256_file(path) if path.is_file() else None


def signature(evidence: Evidence) -> list[Finding]:
    """Signature of the model's folder, and provenance, against the ledger and a trusted key."""
    facts = evidence.facts
    if not facts:
        return [missing(_NO_ROW)]
    if not facts.get(SIGNATURE_HASH):
        return [missing("the version was registered without a signature", evidence.name)]
    where, digest = f"MLflow {layout.SIGNATURE}", _sha256(evidence.signature)
    stones = evidence.tombstones.files
    if digest is None:
        return [missing("the signature is missing", where)]
    if digest != facts[SIGNATURE_HASH]:
        return [broken("is not the registered one", where, facts[SIGNATURE_HASH], digest)]
    try:
        key = signing.trusted(facts[SIGNER])
    except signing.UntrustedError as error:
        return [missing(error.what, error.where)]
    except ImlError as error:
        return [broken(error.what, error.where)]
    try:
        signing.verify(evidence.files, evidence.signature, key, stones.keys().__ge__)
    except ImlError as error:
        return [broken(error.what, "MLflow model")]
    erased = [stones[sha] for sha in signing.absent(evidence.files, evidence.signature)]
    lines = dict.fromkeys(f"a file was erased, by tombstone ({one.line()})" for one in erased)
    found = [remark(line, "MLflow model") for line in lines]
    count = f", but for {len(erased)} erased by tombstone" if erased else ""
    known = verified(f"of every file by key {facts[SIGNER][:16]}{count}", where)
    return [known, *found, *attestations.provenance(evidence)]


def run(evidence: Evidence) -> Iterator[Finding]:
    """The run's state, and that the code which serves is the commit's."""
    run, facts = evidence.run, evidence.facts
    if run is None:
        yield missing(evidence.no_run, evidence.name)
        return
    pairs: list[Pair] = [("status", "FINISHED", run.status)]
    if facts:
        pairs.append(("tag identity", facts["identity"], run.tags.get("identity")))
    yield from compared("finished, and of this version", f"run {run.run_id}", pairs)
    # A version of uncommitted changes was made from other files.
    if evidence.clean and evidence.tree is not None and any(evidence.files.iterdir()):
        server = evidence.tree.get(evidence.names.path("server"), b"no such file")
        pairs = list(_served_code(evidence.files, evidence.tree, server))
        yield from compared("packaged code matches the commit", "MLflow model", pairs)


def _served_code(files: Path, tree: dict[str, bytes], server: bytes) -> Iterator[Pair]:
    for path in sorted((files / "code").rglob("*.py")):
        name = path.relative_to(files / "code").as_posix()
        yield f"code/{name}", tree.get(name, b"no such file"), path.read_bytes()
    entry = files / "pyfunc.py"
    packaged = entry.read_bytes() if entry.is_file() else None
    yield entry.name, server, packaged


def record(evidence: Evidence) -> list[Finding]:
    """The lineage record's hash against the ledger's."""
    where = f"MLflow {layout.RECORD}"
    if evidence.raw_record is None:
        return [missing("the lineage record is missing", where)]
    if not evidence.facts:
        return [missing(_NO_ROW, where)]
    registered = evidence.facts["record_sha256"]
    if not evidence.has_record:
        try:
            found = sha256_json(evidence.raw_record)
        except ValueError:
            found = "not JSON"
        return [broken("was changed", where, registered, found)]
    if not is_known(evidence.record):
        schema = evidence.record.get("schema")
        return [missing(f"has schema {schema}; this program knows up to {SCHEMA}", where)]
    return [verified(f"SHA-256 {registered} matches the ledger", where)]
