"""Who signed the ledger's rows: unsigned, foreign, back-dated and forbidden rows are named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from components.core.errors import EvidenceError, InputError
from components.core.paths import state_dir
from components.registry import row_signatures, signing
from components.registry.chain import Event, Row, digest
from components.registry.ledger import Entry, Ledger
from components.registry.signing import UntrustedError


@pytest.fixture
def ledger() -> Ledger:
    """Three rows: version 1 registered, gated, promoted."""
    made = Ledger()
    for event in (Event.REGISTERED, Event.GATED, Event.PROMOTED):
        made.append(entry(event))
    return made


def entry(event: Event) -> Entry:
    return Entry("m", event, 1, "ann", "because", {})


@pytest.fixture
def other_key(tmp_path: Path) -> Path:
    """A private key that nothing here knows."""
    path = tmp_path / "other.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    return path


def written(change: Callable[[list[Row]], list[Row]]) -> None:
    """Change the rows behind the ledger's back."""
    rows = change(Ledger().rows("m"))
    with sa.create_engine(f"sqlite:///{state_dir()}/ledger.db").begin() as connection:
        connection.exec_driver_sql("DELETE FROM ledger")
        for row in rows:
            names = ", ".join(asdict(row))
            marks = ", ".join("?" * len(asdict(row)))
            insert = f"INSERT INTO ledger ({names}) VALUES ({marks})"
            connection.exec_driver_sql(insert, tuple(asdict(row).values()))


def follows(before: Row | None, row: Row) -> Row:
    """A row whose hashes are right again."""
    row = replace(row, previous_hash=before.hash if before else row.previous_hash)
    return replace(row, hash=digest(asdict(row)))


def test_every_row_is_signed_by_the_key_that_acts(ledger: Ledger) -> None:
    rows = ledger.verify("m")
    assert {row.signing_key for row in rows} == {signing.signer().mark}
    assert len({row.signature for row in rows}) == 3


def resigned(rows: list[Row], key: Path, monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """The last row under another reason, and all of it consistent with another key."""
    with monkeypatch.context() as patch:
        patch.setenv(signing.KEY, str(key))
        patch.setenv(signing.TRUSTED, str(key.parent / "trusted"))
        signer = signing.signer()
        last = follows(rows[-2], replace(rows[-1], reason="forged", signing_key=signer.mark))
        return [*rows[:-1], row_signatures.sign(last, signer)]


def test_a_row_signed_again_by_a_stranger_is_named(
    ledger: Ledger, other_key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(lambda rows: resigned(rows, other_key, monkeypatch))
    with pytest.raises(UntrustedError, match=r"row 3 \(promoted version 1\) signed by") as said:
        ledger.verify("m")
    assert said.value.hint
    assert "put it there as" in said.value.hint
    # Whoever knows the stranger takes the row.
    public = next((other_key.parent / "trusted").glob("*.pem"))
    signing.place(public.stem).write_bytes(public.read_bytes())
    assert ledger.verify("m")[-1].reason == "forged"


def without_key(rows: list[Row]) -> list[Row]:
    bare = follows(rows[-2], replace(rows[-1], signing_key=None, signature=None))
    return [*rows[:-1], bare]


def without_signature(rows: list[Row]) -> list[Row]:
    return [*rows[:-1], replace(rows[-1], signature=None)]


def of_another(rows: list[Row]) -> list[Row]:
    return [*rows[:-1], replace(rows[-1], signature=rows[0].signature)]


def renamed(rows: list[Row]) -> list[Row]:
    return [*rows[:-1], follows(rows[-2], replace(rows[-1], actor="eve"))]


def garbage(rows: list[Row]) -> list[Row]:
    return [*rows[:-1], replace(rows[-1], signature="\u00e4 no base64")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_key, "row 3 .* is not signed, although earlier rows are"),
        (without_signature, "row 3 .* was not signed by the key that it names"),
        (of_another, "row 3 .* was not signed by the key that it names"),
        (renamed, "row 3 .* was not signed by the key that it names"),
        (garbage, "row 3 .* was not signed by the key that it names"),
    ],
)
def test_what_was_not_signed_is_named(
    ledger: Ledger, change: Callable[[list[Row]], list[Row]], message: str
) -> None:
    written(change)
    with pytest.raises(EvidenceError, match=message):
        ledger.verify("m")


def test_rows_of_earlier_programs_come_first(ledger: Ledger) -> None:
    def older(rows: list[Row]) -> list[Row]:
        made: list[Row] = []
        for row in rows:
            bare = replace(row, signing_key=None, signature=None)
            made.append(follows(made[-1] if made else None, bare))
        return made

    written(older)
    ledger.verify("m")
    ledger.append(entry(Event.REGISTERED))
    assert [bool(row.signature) for row in ledger.verify("m")] == [False, False, False, True]
    # The first signed row vouches for them: none of them can be changed any more.
    written(lambda rows: [follows(None, replace(rows[0], reason="other")), *rows[1:]])
    with pytest.raises(EvidenceError, match=r"row 2 .* does not follow"):
        ledger.verify("m")


def allow(text: str) -> Path:
    path = signing.place(signing.signer().mark).with_suffix(".yaml")
    path.write_text(text)
    return path


def test_a_key_does_what_it_may(ledger: Ledger) -> None:
    allow("roles: [flows]")
    ledger.append(entry(Event.GATED))
    ledger.append(entry(Event.REJECTED))
    with pytest.raises(InputError, match="not one of people, who alone append 'approved'"):
        ledger.append(entry(Event.APPROVED))
    ledger.verify("m")
    path = allow("roles: [people]")
    with pytest.raises(EvidenceError, match=r"row 1 .* should not have been signed: .* of flows"):
        ledger.verify("m")
    path.unlink()
    assert len(ledger.verify("m")) == 5


def test_a_revoked_key_keeps_its_earlier_rows_and_gains_none_by_an_earlier_date(
    ledger: Ledger,
) -> None:
    signer = signing.signer()

    def dated(rows: list[Row]) -> list[Row]:
        """Rows of 2020, 2021 and one of 2019, made by whoever has the key."""
        made: list[Row] = []
        for row, year in zip(rows, (2020, 2021, 2019), strict=True):
            new = replace(row, time=f"{year}-01-01T00:00:00+00:00")
            made.append(row_signatures.sign(follows(made[-1] if made else None, new), signer))
        return made

    written(dated)
    ledger.verify("m")
    allow("valid_until: 2020-06-01T00:00:00Z")
    with pytest.raises(EvidenceError, match=r"row 2 .* was valid until 2020-06-01.*1 more"):
        ledger.verify("m")
    with pytest.raises(InputError, match="this key was valid until"):
        ledger.append(entry(Event.REJECTED))
    allow("valid_until: 2021-06-01T00:00:00Z")
    ledger.verify("m")
    allow("valid_from: 2020-06-01T00:00:00Z")
    with pytest.raises(EvidenceError, match=r"row 1 .* is valid from 2020-06-01"):
        ledger.verify("m")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("role: [flows]", "role: Extra inputs"),
        ("roles: [kings]", "roles.0: Input should be 'flows' or 'people'"),
        ("valid_until: 2026-01-01", "valid_until: "),
        ("[1", "not YAML"),
        ("- flows", "whole file"),
    ],
)
def test_what_is_no_rule_is_one_line(ledger: Ledger, text: str, message: str) -> None:
    path = allow(text)
    with pytest.raises(InputError, match=message) as said:
        ledger.verify("m")
    assert said.value.where == str(path)


def test_a_ledger_that_is_signed_gets_no_row_by_a_key_made_in_passing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = f"sqlite:///{state_dir()}/ledger.db"
    monkeypatch.setenv("IML_STATE", str(tmp_path / "elsewhere"))
    with pytest.raises(InputError, match="private signing key is missing") as said:
        Ledger(url).append(entry(Event.GATED))
    assert said.value.hint
    assert "openssl genpkey" in said.value.hint
    assert not list((tmp_path / "elsewhere").rglob("*.pem"))


def test_openssl_agrees(ledger: Ledger, tmp_path: Path) -> None:
    import base64
    import subprocess

    row = ledger.rows("m")[-1]
    assert row.signature
    assert row.signing_key
    (tmp_path / "signature").write_bytes(base64.b64decode(row.signature))
    for text, code in ((f"ledger row {row.hash}\n", 0), ("another\n", 1)):
        (tmp_path / "text").write_text(text)
        key, files = signing.place(row.signing_key), ("signature", "text")
        command = ["openssl", "dgst", "-sha256", "-verify", str(key), "-signature", *files]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == code
