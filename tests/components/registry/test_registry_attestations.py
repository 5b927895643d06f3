"""In-toto attestations, verified by in-toto's own code and by securesystemslib, not by ours."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.json_format import ParseDict
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.predicates.test_result.v0.test_result_pb2 import TestResult as Result
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as Message
from registry_support import GATES, RULES, evidence, rules
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from components.core.errors import EvidenceError
from components.core.files import read_json, sha256_file, sha256_json
from components.registry import attestations, layout, signing
from components.registry.chain import Event, last_gating
from components.registry.package import Package
from components.registry.promotion import decide_and_promote, register
from components.registry.versions import Registry, registration

Made = dict[str, dict[str, Any]]
_WHERE = "artifacts/provenance.intoto.json"


def independent(envelope: dict[str, Any], key: Path) -> dict[str, Any]:
    """The statement in an envelope, checked by public code alone."""
    public = serialization.load_pem_public_key(key.read_bytes())
    opened = Envelope.from_dict(copy.deepcopy(envelope))
    opened.verify([SSlibKey.from_crypto(public, keyid=key.stem)], 1)
    assert opened.payload_type == "application/vnd.in-toto+json"
    plain: dict[str, Any] = json.loads(opened.payload)
    Statement.copy_from_pb(ParseDict(plain, Message())).validate()
    return plain


@pytest.fixture
def registered(registry: Registry, make_package: Callable[..., Package]) -> Package:
    """Version 1, which has been gated."""
    package = make_package()
    assert register(registry, package, clean=True, actor="ann") == 1
    decide_and_promote(registry, 1, evidence(), RULES, actor="ann")
    return package


@pytest.fixture
def made(registry: Registry, registered: Package, tmp_path: Path) -> Made:
    """Its two envelopes."""
    (file,) = (tmp_path / "state").rglob(_WHERE)
    facts = registration(registry.rows(), 1).facts()
    assert sha256_file(file) == facts[layout.PROVENANCE_HASH]
    gated, _ = last_gating(registry.rows(), 1)
    assert gated
    return {"provenance": read_json(file), "result": gated.facts()[layout.TEST_RESULT]}


def test_public_code_verifies_and_reads_both(
    registry: Registry, registered: Package, made: Made
) -> None:
    row = registration(registry.rows(), 1)
    key = signing.trusted(row.facts()[layout.SIGNER])
    said = {name: independent(envelope, key) for name, envelope in made.items()}
    for statement in said.values():
        found = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
        assert found == registered.hashes()

    assert said["provenance"]["predicateType"] == "https://slsa.dev/provenance/v1"
    provenance = ParseDict(said["provenance"]["predicate"], Provenance())
    for material in provenance.build_definition.resolved_dependencies:
        ResourceDescriptor.copy_from_pb(material).validate()
        assert material.digest
    materials = {m.name: m.digest for m in provenance.build_definition.resolved_dependencies}
    assert materials["git commit"]["gitCommit"] == "c" * 40
    assert materials["teacher grabcut"]["sha256"] == "t" * 64
    assert materials["lineage record (canonical JSON)"]["sha256"] == registered.record_sha256
    details = provenance.run_details
    assert details.metadata.invocation_id == row.facts()["run_id"]
    assert 0 < details.metadata.started_on.seconds <= details.metadata.finished_on.seconds
    assert details.builder.id

    assert said["result"]["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    result = ParseDict(said["result"]["predicate"], Result())
    assert result.result == "PASSED"
    assert "min_f1" in result.passed_tests
    assert not result.failed_tests
    rules, record, *_ = result.configuration
    assert rules.digest["sha256"] == sha256_json(GATES.model_dump(mode="json"))
    assert rules.annotations["measured and asked"]["min_f1"][0] == 0.5
    assert record.digest["sha256"] == registered.record_sha256


def test_a_flipped_byte_or_another_key_fails_with_both(made: Made, tmp_path: Path) -> None:
    own = signing.trusted(made["result"]["signatures"][0]["keyid"])
    other = tmp_path / own.name  # another key of the same name
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    other.write_bytes(public.public_bytes(serialization.Encoding.PEM, form))
    for envelope in made.values():
        payload = bytearray(base64.b64decode(envelope["payload"]))
        payload[len(payload) // 2] ^= 1
        flipped = {**envelope, "payload": base64.b64encode(payload).decode()}
        assert attestations.opened(envelope, own.stem, own)
        for bad, key in ((flipped, own), (envelope, other)):
            with pytest.raises(VerificationError):
                independent(bad, key)
            with pytest.raises(EvidenceError, match="was not signed by the key"):
                attestations.opened(bad, own.stem, key)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_every_kind_of_key_signs_as_public_code_expects(
    curve: ec.EllipticCurve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path / "key.pem"
    private.write_bytes(
        ec.generate_private_key(curve).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    private.chmod(0o600)
    monkeypatch.setenv("IML_SIGNING_KEY", str(private))
    monkeypatch.setenv("IML_TRUSTED_KEYS", str(tmp_path / "trusted"))
    facts = {"gates": [], "thresholds": {}, "hashes": {}, "record_sha256": "0" * 64}
    statement = attestations.test_result({"files": {"a": "1" * 64}}, facts)
    envelope = attestations.sealed(statement)
    (key,) = (tmp_path / "trusted").iterdir()
    assert independent(envelope, key) == statement == attestations.opened(envelope, key.stem, key)


@pytest.mark.parametrize(
    "odd", [None, {}, [], {"payload": "!", "signatures": []}, {"payload": "", "signatures": [1]}]
)
def test_what_is_no_envelope_is_refused(odd: Any, tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="no attestation"):
        attestations.opened(odd, "a" * 64, tmp_path)


def test_a_failed_gate_is_said_and_the_same_grounds_add_nothing(
    registry: Registry, make_package: Callable[..., Package]
) -> None:
    register(registry, make_package(), clean=True, actor="ann")
    for _ in range(2):
        decide_and_promote(registry, 1, evidence(), rules(min_f1=0.9), actor="ann")
    gated = [row for row in registry.rows() if row.event == Event.GATED]
    assert len(gated) == 1
    key = signing.trusted(gated[0].signing_key or "")
    said = independent(gated[0].facts()[layout.TEST_RESULT], key)["predicate"]
    assert said["result"] == "FAILED"
    assert "min_f1" in said["failedTests"]
