"""Checkpoints of the ledger: written where they are asked for, and what they contradict."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from components.core.errors import EvidenceError, UnavailableError
from components.registry import checkpoints, row_signatures, signing
from components.registry.chain import Event, Row, digest
from components.registry.ledger import Entry, Ledger
from components.registry.signing import UntrustedError


def filled(count: int) -> list[Row]:
    ledger = Ledger()
    for number in range(count):
        ledger.append(Entry("m", Event.REGISTERED, number + 1, "ann", "because", {}))
    return ledger.verify("m")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(checkpoints.SETTING, str(tmp_path / "seen"))
    return tmp_path / "seen"


def faults(rows: list[Row], kept: dict[str, str] | None = None) -> list[EvidenceError]:
    kept = checkpoints.published("m") if kept is None else kept
    assert kept is not None
    return [fault for _, fault in checkpoints.problems(rows, kept)]


def test_nothing_is_written_where_nobody_asks(tmp_path: Path) -> None:
    checkpoints.publish(filled(1))
    assert checkpoints.published("m") is None


def test_each_length_of_the_ledger_gets_one_and_keeps_it(folder: Path) -> None:
    rows = filled(3)
    checkpoints.publish(rows[:2])
    checkpoints.publish(rows)
    first = (folder / "m/00000002.txt").read_text()
    checkpoints.publish(rows[:2])  # ECDSA would sign otherwise
    assert [path.name for path in sorted((folder / "m").iterdir())] == [
        "00000002.txt",
        "00000003.txt",
    ]
    assert (folder / "m/00000002.txt").read_text() == first
    assert faults(rows) == []
    assert checkpoints.published("another") == {}


def test_on_s3(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3

    boto3.client("s3").create_bucket(Bucket="seen")
    monkeypatch.setenv(checkpoints.SETTING, "s3://seen/of/ours")
    rows = filled(2)
    for _ in range(2):
        checkpoints.publish(rows)
    kept = checkpoints.published("m")
    assert kept is not None
    assert list(kept) == ["seen/of/ours/m/00000002.txt"]
    assert faults(rows) == []
    monkeypatch.setenv(checkpoints.SETTING, "s3://nowhere/at/all")
    with pytest.raises(UnavailableError, match="does not answer"):
        checkpoints.publish(rows)


def test_public_code_reads_and_verifies_it(folder: Path) -> None:
    """Sigstore's parser of the same format, and the root computed another way."""
    from sigstore._internal.rekor.checkpoint import SignedCheckpoint

    rows = filled(7)
    checkpoints.publish(rows)
    found = SignedCheckpoint.from_text((folder / "m/00000007.txt").read_text())
    assert (found.checkpoint.origin, found.checkpoint.log_size) == ("boxpromptiml/ledger/m", 7)
    level = [hashlib.sha256(b"\0" + bytes.fromhex(row.hash)).digest() for row in rows]
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        odd = level[-1:] if len(level) % 2 else []
        level = [hashlib.sha256(b"\1" + a + b).digest() for a, b in pairs] + odd
    assert found.checkpoint.log_hash == level[0].hex()
    key: Any = serialization.load_pem_public_key(signing.place(signing.signer().mark).read_bytes())
    (seal,) = found.signed_note.signatures
    spki = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert seal.sig_hash == hashlib.sha256(spki).digest()[:4]
    raw = base64.b64decode(seal.signature)
    key.verify(raw, found.signed_note.note.encode(), ec.ECDSA(hashes.SHA256()))


def rewritten(rows: list[Row]) -> list[Row]:
    """Another reason in row 2 and all that follows from it, signed by the same key."""
    signer, made = signing.signer(), rows[:1]
    for row in rows[1:]:
        new = replace(row, reason="other", previous_hash=made[-1].hash)
        new = replace(new, hash=digest(asdict(new)))
        made.append(row_signatures.sign(new, signer))
    return made


def test_what_was_cut_off_or_rewritten_is_found(folder: Path) -> None:
    rows = filled(4)
    checkpoints.publish(rows)
    (cut,) = faults(rows[:3])
    assert "4 rows were seen, the ledger has 3: the last ones were cut off" in cut.what
    (other,) = faults(rewritten(rows))
    assert "the first 4 rows are not those that were seen" in other.what
    # Two histories, shown to two auditors: each has a checkpoint of what it was shown.
    theirs = {"theirs.txt": checkpoints.made(rewritten(rows))}
    assert [fault.what for fault in faults(rows, theirs)] == [other.what]


@pytest.mark.parametrize(
    ("change", "message", "kind"),
    [
        (lambda text: text.replace("\n2\n", "\n1\n"), "not signed by the key", EvidenceError),
        (lambda text: text.replace("ledger/m", "ledger/n"), "a checkpoint of", EvidenceError),
        (lambda text: text[:-6] + "\n", "is no checkpoint", EvidenceError),
        (lambda text: "", "is no checkpoint", EvidenceError),
        (lambda text: "\xff\n\n\u2014", "is no checkpoint", EvidenceError),
        (lambda text: text.replace("\n2\n", "\n02\n"), "is no checkpoint", EvidenceError),
        (lambda text: foreign(text), "not signed by a key that is trusted", UntrustedError),
    ],
)
def test_a_forged_one_is_named(
    change: Callable[[str], str], message: str, kind: type[EvidenceError]
) -> None:
    rows = filled(2)
    (fault,) = faults(rows, {"x": change(checkpoints.made(rows))})
    assert message in fault.what
    assert type(fault) is kind


def foreign(text: str) -> str:
    """Signed by a key that nobody knows."""
    body = text.split("\n\n")[0] + "\n"
    signature = ec.generate_private_key(ec.SECP256R1()).sign(
        body.encode(), ec.ECDSA(hashes.SHA256())
    )
    seal = base64.b64encode(b"\1\2\3\4" + signature).decode()
    return f"{body}\n\u2014 boxpromptiml/ledger/m {seal}\n"


def test_a_witness_may_sign_too() -> None:
    rows = filled(2)
    text = checkpoints.made(rows)
    witness = foreign(text).split("\n\n")[1]
    assert faults(rows, {"x": text + witness}) == []
