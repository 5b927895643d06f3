"""Checks of what the registry holds: ledger, alias, version, signature, run, record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from components.errors import ImlError
from components.files import sha256_file, sha256_json
from components.lineage.case import Case
from components.lineage.record import SCHEMA
from components.lineage.verdict import Finding, Pair, broken, compared, missing, verified
from components.registry import chain, layout, signing
from components.registry.chain import Event, Witness
from components.registry.tracking import IDENTITY, RECORD_HASH, SIGNATURE_HASH, SIGNER

_CODE = "code/"


def ledger(case: Case) -> list[Finding]:
    """Every row's hash, the chain of them, and its end against what MLflow remembers."""
    link, where = "ledger", f"ledger of {case.model}"
    if not case.rows:
        return [missing(link, "has no rows", where)]
    found = [broken(link, what, where) for what in _problems(case)]
    if case.witness is None:
        found.append(missing(link, "MLflow has no note of the ledger's last row", where))
    if not any(r.version == case.version and r.event == Event.REGISTERED for r in case.rows):
        found.append(missing(link, f"no row registers version {case.version}", where))
    return found or [verified(link, f"{len(case.rows)} rows, hash chain and its end", where)]


def _problems(case: Case) -> list[str]:
    try:
        return chain.problems(case.rows, Witness.parse(case.witness))
    except (TypeError, ValueError) as error:
        return [f"a row cannot be read ({error})"]


def alias(case: Case) -> list[Finding]:
    """MLflow's alias against the champion that the ledger names."""
    link, champion = "alias", chain.champion(case.rows)
    where = f"{case.model}@champion"
    if case.alias == champion:
        return [verified(link, f"points at version {champion}, as the ledger says", where)]
    return [broken(link, "does not point at the ledger's champion", where, champion, case.alias)]


def version(case: Case) -> list[Finding]:
    """The version's run and tags, and the model's files, against the ledger's row."""
    link, facts = "version", case.facts
    if not facts:
        return [missing(link, "depends on its row in the ledger, which is missing or broken")]
    if case.run is None:
        return [missing(link, "MLflow has no such version or run", case.name)]
    if not any(case.files.iterdir()):
        return [missing(link, "MLflow has no files of the model", case.name)]
    tags = {
        **facts["tags"],
        **{name: facts.get(name) for name in (IDENTITY, RECORD_HASH, SIGNATURE_HASH, SIGNER)},
        "weights_sha256": facts["files"]["student.safetensors"],
    }
    pairs: list[Pair] = [("run id", facts["run_id"], case.run.run_id)]
    pairs += [
        (f"tag {name}", value, case.run.version_tags.get(name)) for name, value in tags.items()
    ]
    files = [
        (f"{layout.ARTIFACTS}/{name}", digest, _sha256(case.files / layout.ARTIFACTS / name))
        for name, digest in facts["files"].items()
    ]
    return [
        *compared(link, "run id and tags match the ledger", "MLflow version", pairs),
        *compared(link, "files match the registration", "MLflow model", files),
        *_identity(case),
    ]


def _identity(case: Case) -> Iterator[Finding]:
    """The version's identity, computed again from its files and dvc.lock."""
    if not case.record:
        return
    found = sha256_json(
        {"files": case.facts["files"], "dvc_lock": case.record["dvc_lock"]["sha256"]}
    )
    pairs = [
        ("identity", case.facts["identity"], found),
        *((f"files {n}", h, case.record["files"].get(n)) for n, h in case.facts["files"].items()),
    ]
    yield from compared("version", "identity and record agree with the ledger", "record", pairs)


def _sha256(path: Path) -> str | None:
    return sha256_file(path) if path.is_file() else None


def signature(case: Case) -> list[Finding]:
    """The signature of the model's folder, against the ledger and a trusted key."""
    link, facts = "signature", case.facts
    if not facts:
        return [missing(link, "depends on its row in the ledger, which is missing or broken")]
    if not facts.get(SIGNATURE_HASH):
        return [missing(link, "the version was registered without a signature", case.name)]
    path, where = case.signature, f"MLflow {layout.SIGNATURE}"
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
        signing.verify(case.files, path, key)
    except ImlError as error:
        return [broken(link, error.what, "MLflow model")]
    return [verified(link, f"of every file by key {facts[SIGNER][:16]}", where)]


def run(case: Case) -> list[Finding]:
    """The run's state and parameters, and that the code which serves is the commit's."""
    link = "run"
    if case.run is None:
        return [missing(link, "MLflow has no such version or run", case.name)]
    pairs: list[Pair] = [("status", "FINISHED", case.run.status)]
    if case.facts:
        pairs.append(("tag identity", case.facts["identity"], case.run.tags.get("identity")))
    found = compared(link, "finished, and of this version", f"run {case.run.run_id}", pairs)
    return [*found, *_served_code(case)]


def _served_code(case: Case) -> list[Finding]:
    """The packaged code against the commit's; not asked of a version made from other files."""
    if not case.clean or case.tree is None or not any(case.files.iterdir()):
        return []
    folder = case.files / _CODE
    have = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.py")}
    want = {
        path: data
        for path, data in case.tree.items()
        if path.startswith("components/") and path.endswith(".py")
    }
    pairs: list[Pair] = []
    for path in sorted({*have, *want}):
        here = have[path].read_bytes() if path in have else None
        pairs.append((f"{_CODE}{path}", want.get(path, b"no such file"), here))
    entry = case.files / "pyfunc.py"
    pairs.append(
        (
            "pyfunc.py",
            want.get("components/serving/pyfunc.py"),
            entry.read_bytes() if entry.is_file() else None,
        )
    )
    return compared("run", "packaged code matches the commit", "MLflow model", pairs)


def record(case: Case) -> list[Finding]:
    """The lineage record's hash against the ledger's."""
    link, where = "record", f"MLflow {layout.RECORD}"
    if case.raw_record is None:
        return [missing(link, "the lineage record is missing", where)]
    if not case.facts:
        return [
            missing(link, "depends on its row in the ledger, which is missing or broken", where)
        ]
    if case.record is None:
        try:
            found = sha256_json(case.raw_record)
        except ValueError:
            found = "not JSON"
        return [broken(link, "was changed", where, case.facts["record_sha256"], found)]
    schema = case.record.get("schema")
    if not isinstance(schema, int) or schema > SCHEMA:
        return [missing(link, f"has schema {schema}; this program knows up to {SCHEMA}", where)]
    return [verified(link, f"SHA-256 {case.facts['record_sha256']} matches the ledger", where)]
