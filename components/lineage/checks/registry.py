"""Checks of what the registry holds: ledger, alias, version, signature, run, record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from components.core.errors import ImlError
from components.core.files import sha256_file, sha256_json
from components.lineage.evidence import Evidence
from components.lineage.record import SCHEMA
from components.lineage.verdict import Finding, Pair, broken, compared, missing, verified
from components.registry import chain, layout, signing
from components.registry.chain import Event, LedgerHead
from components.registry.layout import IDENTITY, RECORD_HASH, SIGNATURE_HASH, SIGNER

_CODE = "code/"


def ledger(evidence: Evidence) -> list[Finding]:
    """Every row's hash, the chain of them, and its end against what MLflow remembers."""
    link, where = "ledger", f"ledger of {evidence.model}"
    if not evidence.rows:
        return [missing(link, "has no rows", where)]
    found = [broken(link, what, where) for what in _problems(evidence)]
    if evidence.ledger_head is None:
        found.append(missing(link, "MLflow has no note of the ledger's last row", where))
    if not any(
        r.version == evidence.version and r.event == Event.REGISTERED for r in evidence.rows
    ):
        found.append(missing(link, f"no row registers version {evidence.version}", where))
    return found or [verified(link, f"{len(evidence.rows)} rows, hash chain and its end", where)]


def _problems(evidence: Evidence) -> list[str]:
    try:
        return chain.problems(evidence.rows, LedgerHead.parse(evidence.ledger_head))
    except (TypeError, ValueError) as error:
        return [f"a row cannot be read ({error})"]


def alias(evidence: Evidence) -> list[Finding]:
    """MLflow's alias against the champion that the ledger names."""
    link, champion = "alias", chain.champion(evidence.rows)
    where = f"{evidence.model}@champion"
    if evidence.alias == champion:
        return [verified(link, f"points at version {champion}, as the ledger says", where)]
    return [
        broken(link, "does not point at the ledger's champion", where, champion, evidence.alias)
    ]


def version(evidence: Evidence) -> list[Finding]:
    """The version's run and tags, and the model's files, against the ledger's row."""
    link, facts = "version", evidence.facts
    if not facts:
        return [missing(link, "depends on its row in the ledger, which is missing or broken")]
    if evidence.run is None:
        return [missing(link, "MLflow has no such version or run", evidence.name)]
    if not any(evidence.files.iterdir()):
        return [missing(link, "MLflow has no files of the model", evidence.name)]
    tags = {
        **facts["tags"],
        **{name: facts.get(name) for name in (IDENTITY, RECORD_HASH, SIGNATURE_HASH, SIGNER)},
        "weights_sha256": facts["files"]["student.safetensors"],
    }
    pairs: list[Pair] = [("run id", facts["run_id"], evidence.run.run_id)]
    pairs += [
        (f"tag {name}", value, evidence.run.version_tags.get(name)) for name, value in tags.items()
    ]
    files = [
        (f"{layout.ARTIFACTS}/{name}", digest, _sha256(evidence.files / layout.ARTIFACTS / name))
        for name, digest in facts["files"].items()
    ]
    return [
        *compared(link, "run id and tags match the ledger", "MLflow version", pairs),
        *compared(link, "files match the registration", "MLflow model", files),
        *_identity(evidence),
    ]


def _identity(evidence: Evidence) -> Iterator[Finding]:
    """The version's identity, computed again from its files and dvc.lock."""
    if not evidence.record:
        return
    found = sha256_json(
        {"files": evidence.facts["files"], "dvc_lock": evidence.record["dvc_lock"]["sha256"]}
    )
    pairs = [
        ("identity", evidence.facts["identity"], found),
        *(
            (f"files {n}", h, evidence.record["files"].get(n))
            for n, h in evidence.facts["files"].items()
        ),
    ]
    yield from compared("version", "identity and record agree with the ledger", "record", pairs)


def _sha256(path: Path) -> str | None:
    return sha256_file(path) if path.is_file() else None


def signature(evidence: Evidence) -> list[Finding]:
    """The signature of the model's folder, against the ledger and a trusted key."""
    link, facts = "signature", evidence.facts
    if not facts:
        return [missing(link, "depends on its row in the ledger, which is missing or broken")]
    if not facts.get(SIGNATURE_HASH):
        return [missing(link, "the version was registered without a signature", evidence.name)]
    path, where = evidence.signature, f"MLflow {layout.SIGNATURE}"
    digest = _sha256(path)
    if digest is None:
        return [missing(link, "the signature is missing", where)]
    if digest != facts[SIGNATURE_HASH]:
        return [broken(link, "is not the registered one", where, facts[SIGNATURE_HASH], digest)]
    try:
        key = signing.trusted(facts[SIGNER])
    except signing.UntrustedError as error:
        return [missing(link, error.what, error.where)]
    except ImlError as error:
        return [broken(link, error.what, error.where)]
    try:
        signing.verify(evidence.files, path, key)
    except ImlError as error:
        return [broken(link, error.what, "MLflow model")]
    return [verified(link, f"of every file by key {facts[SIGNER][:16]}", where)]


def run(evidence: Evidence) -> list[Finding]:
    """The run's state and parameters, and that the code which serves is the commit's."""
    link = "run"
    if evidence.run is None:
        return [missing(link, "MLflow has no such version or run", evidence.name)]
    pairs: list[Pair] = [("status", "FINISHED", evidence.run.status)]
    if evidence.facts:
        pairs.append(
            ("tag identity", evidence.facts["identity"], evidence.run.tags.get("identity"))
        )
    found = compared(link, "finished, and of this version", f"run {evidence.run.run_id}", pairs)
    return [*found, *_served_code(evidence)]


def _served_code(evidence: Evidence) -> list[Finding]:
    """The packaged code against the commit's; not asked of a version made from other files."""
    if not evidence.clean or evidence.tree is None or not any(evidence.files.iterdir()):
        return []
    folder = evidence.files / _CODE
    have = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.py")}
    want = evidence.tree
    pairs: list[Pair] = [
        (f"{_CODE}{path}", want.get(path, b"no such file"), have[path].read_bytes())
        for path in sorted(have)
    ]
    entry = evidence.files / "pyfunc.py"
    pairs.append(
        (
            "pyfunc.py",
            want.get("components/serving/pyfunc.py"),
            entry.read_bytes() if entry.is_file() else None,
        )
    )
    return compared("run", "packaged code matches the commit", "MLflow model", pairs)


def record(evidence: Evidence) -> list[Finding]:
    """The lineage record's hash against the ledger's."""
    link, where = "record", f"MLflow {layout.RECORD}"
    if evidence.raw_record is None:
        return [missing(link, "the lineage record is missing", where)]
    if not evidence.facts:
        return [
            missing(link, "depends on its row in the ledger, which is missing or broken", where)
        ]
    if evidence.record is None:
        try:
            found = sha256_json(evidence.raw_record)
        except ValueError:
            found = "not JSON"
        return [broken(link, "was changed", where, evidence.facts["record_sha256"], found)]
    schema = evidence.record.get("schema")
    if not isinstance(schema, int) or schema > SCHEMA:
        return [missing(link, f"has schema {schema}; this program knows up to {SCHEMA}", where)]
    return [verified(link, f"SHA-256 {evidence.facts['record_sha256']} matches the ledger", where)]
