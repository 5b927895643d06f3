"""In-toto attestations of a version, for whoever judges models without this program.

Each is an in-toto Statement v1 about the version's files in a DSSE envelope that the signing key
signs. Provenance (SLSA provenance v1) is made when a version is uploaded and lies beside its
signature; the `registered` row has its SHA-256. A test result (in-toto test-result v0.1) is made of
each gating and lies in the `gated` row.

They repeat what lineage record and ledger say, so an audit makes them again and compares. That
works as long as a form stays as it is: another form gets another number in `BUILD_TYPE` or `GATES`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from components.core.errors import EvidenceError
from components.core.files import canonical_json, sha256_json
from components.registry import schemas, signing
from components.registry.layout import RECORD_HASH

BUILD_TYPE, GATES = "urn:boxpromptiml:pipeline:1", "urn:boxpromptiml:gates:1"
PROVENANCE_TYPE = "https://slsa.dev/provenance/v1"
TEST_RESULT_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
_STATEMENT, _PAYLOAD = "https://in-toto.io/Statement/v1", "application/vnd.in-toto+json"
_BUILDER = "urn:boxpromptiml:builder"


def provenance(
    record: Mapping[str, Any], files: Mapping[str, str], run_id: str, started: str, finished: str
) -> dict[str, Any]:
    """The statement of what made a version.

    Args:
        record: its lineage record.
        files: SHA-256 by name of the student's files.
        run_id: of its run in MLflow.
        started: time in ISO 8601.
        finished: likewise.
    """
    metadata = {"invocationId": run_id, "startedOn": started, "finishedOn": finished}
    builder = {"id": _BUILDER, "version": {"boxpromptiml": installed("boxpromptiml")}}
    predicate = {
        "buildDefinition": definition(record),
        "runDetails": {"builder": builder, "metadata": metadata},
    }
    return _statement(files, PROVENANCE_TYPE, predicate)


def definition(record: Mapping[str, Any]) -> dict[str, Any]:
    """What of a provenance the record alone decides: the parameters, and materials by digest."""
    return {
        "buildType": BUILD_TYPE,
        "externalParameters": {"params.yaml": schemas.of(record).parameters()},
        "resolvedDependencies": list(_materials(record)),
    }


def _materials(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    git, teacher, first = record["git"], record["teacher"], record.get("backbone") or {}
    commit = {"name": "git commit", "digest": {"gitCommit": git["commit"]}}
    yield commit if git["clean"] else {**commit, "annotations": {"uncommitted": git["dirty"]}}
    yield _material("dvc.lock", record["dvc_lock"]["sha256"])
    yield _material("lineage record (canonical JSON)", sha256_json(record))
    for name, data in record["datasets"].items():
        for out in (data.get("dvc") or {}).get("outs", []):
            if md5 := out.get("md5"):  # of the object that lists the files
                digest = {"md5": md5.removesuffix(".dir")}
                yield {"name": f"data set {name}", "uri": f"dvc:{md5}", "digest": digest}
        yield _material(f"boxes of data set {name}", data["boxes_sha256"])
    yield _material(f"teacher {teacher['name']}", teacher["sha256"])
    if first.get("sha256"):
        yield _material(f"first weights {first.get('name')}", first["sha256"])
    # Python, system, processors and every package with its version, as the record lists them.
    yield _material("environment (canonical JSON)", sha256_json(record["environment"]))


def _material(name: str, sha256: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": sha256}}


def test_result(registered: Mapping[str, Any], gated: Mapping[str, Any]) -> dict[str, Any]:
    """The statement of what was measured of a version and which gates it passed.

    Args:
        registered: facts of the version's row.
        gated: facts of the gating's row.
    """
    gates = gated["gates"]
    numbers = {gate["name"]: [gate["value"], gate["threshold"]] for gate in gates}
    rules = {
        "name": "gates",
        "uri": GATES,
        "digest": {"sha256": sha256_json(gated["thresholds"])},
        "annotations": {"measured and asked": numbers},
    }
    measured = [_material(name, digest) for name, digest in sorted(gated["hashes"].items())]
    record = _material("lineage record (canonical JSON)", gated[RECORD_HASH])
    predicate = {
        "result": "PASSED" if all(gate["passed"] for gate in gates) else "FAILED",
        "configuration": [rules, record, *measured],
        "passedTests": [gate["name"] for gate in gates if gate["passed"]],
        "failedTests": [gate["name"] for gate in gates if not gate["passed"]],
    }
    return _statement(registered["files"], TEST_RESULT_TYPE, predicate)


def _statement(files: Mapping[str, str], kind: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    subjects = [_material(name, digest) for name, digest in sorted(files.items())]
    return {
        "_type": _STATEMENT,
        "subject": subjects,
        "predicateType": kind,
        "predicate": dict(predicate),
    }


def sealed(statement: Mapping[str, Any]) -> dict[str, Any]:
    """A statement in an envelope, signed; raises InputError where there is no key."""
    signer, payload = signing.signer(), canonical_json(dict(statement))
    signature = base64.b64encode(signer.seal(_encoded(payload))).decode()
    return {
        "payloadType": _PAYLOAD,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": signer.mark, "sig": signature}],
    }


def opened(envelope: Any, mark: str, public_key: Path) -> dict[str, Any]:
    """The statement in an envelope; raises EvidenceError where this key did not sign it."""
    try:
        payload = base64.b64decode(envelope["payload"], validate=True)
        (seal,) = envelope["signatures"]
        signature = base64.b64decode(seal["sig"], validate=True)
        known = envelope["payloadType"] == _PAYLOAD and seal["keyid"] == mark
        if not known or not signing.sealed(_encoded(payload), signature, public_key):
            raise EvidenceError("was not signed by the key that signed the version")
        statement = json.loads(payload)
    except (ValueError, KeyError, TypeError):
        raise EvidenceError("is no attestation in an envelope") from None
    if not isinstance(statement, dict):
        raise EvidenceError("holds no statement")
    return statement


def _encoded(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what is signed."""
    return b"DSSEv1 %d %b %d %b" % (len(_PAYLOAD), _PAYLOAD.encode(), len(payload), payload)
