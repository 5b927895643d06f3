"""Signatures of a folder: every change is named, and the format's public tool agrees."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from components.core.errors import CheckError, InputError
from components.core.files import sha256_file
from components.core.paths import state_dir
from components.registry import signing


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "version"
    (made / "sub").mkdir(parents=True)
    (made / "student.json").write_text("{}")
    (made / "sub/record.json").write_text("[1]")
    return made


@pytest.fixture
def signed(folder: Path) -> tuple[Path, Path, Path]:
    """Folder, signature, public key."""
    signature = folder.parent / "version.sig"
    return folder, signature, signing.trusted(signing.sign(folder, signature))


def public_tool(folder: Path, signature: Path, key: Path) -> int:
    tool = str(Path(sys.executable).parent / "model_signing")
    command = [tool, "verify", "key", str(folder), "--signature", str(signature)]
    return subprocess.run(
        [*command, "--public_key", str(key)], capture_output=True, check=False
    ).returncode


def test_a_signed_folder_verifies_here_and_with_the_public_tool(signed) -> None:
    folder, signature, key = signed
    assert signing.verify(folder, signature, key) == signing.fingerprint(key) == key.stem
    assert public_tool(folder, signature, key) == 0
    (folder / "student.json").write_text("{ }")
    assert public_tool(folder, signature, key) != 0


def edit(folder: Path) -> None:
    (folder / "student.json").write_text("[]")


def remove(folder: Path) -> None:
    (folder / "sub/record.json").unlink()


def add(folder: Path) -> None:
    (folder / "sub/code.py").write_text("print()")


def hide(folder: Path) -> None:
    (folder / ".gitignore").write_text("x")


def link(folder: Path) -> None:
    text = (folder / "student.json").read_text()
    (folder.parent / "elsewhere").write_text(text)
    (folder / "student.json").unlink()
    (folder / "student.json").symlink_to(folder.parent / "elsewhere")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (edit, "student.json was changed"),
        (remove, "sub/record.json is missing"),
        (add, "sub/code.py was added"),
        (hide, ".gitignore was added"),
        (link, "damaged"),
    ],
)
def test_every_change_of_the_folder_is_named(
    signed, change: Callable[[Path], None], said: str
) -> None:
    folder, signature, key = signed
    change(folder)
    with pytest.raises(CheckError, match=said):
        signing.verify(folder, signature, key)


def test_a_signature_that_was_touched_is_refused(signed) -> None:
    folder, signature, key = signed
    good = signature.read_text()
    bundle = json.loads(good)
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = "AAAA"
    for text in ("", "{}", "[]", good[: len(good) // 2], json.dumps(bundle)):
        signature.write_text(text)
        with pytest.raises(CheckError, match=r"damaged|not made by this key"):
            signing.verify(folder, signature, key)
    signature.unlink()
    with pytest.raises(CheckError, match="no signature"):
        signing.verify(folder, signature, key)


def test_another_key_is_another_signer(signed, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, signature, key = signed
    other = folder.parent / "other.sig"
    (state_dir() / "keys/signing.pem").unlink()
    with pytest.raises(InputError, match="the private signing key is missing") as lost:
        signing.sign(folder, other)
    subprocess.run(["/bin/sh", "-c", re.search(r"\(umask.*\)", lost.value.hint)[0]], check=True)
    mark = signing.sign(folder, other)
    assert mark != key.stem
    with pytest.raises(CheckError, match="not made by this key"):
        signing.verify(folder, other, key)
    # What the key before signed still verifies: its public half stays trusted.
    recorded = {"sha256": sha256_file(signature), "key": key.stem}
    signing.verified(folder, signature, **recorded)
    with pytest.raises(CheckError, match="not the one that was registered"):
        signing.verified(folder, other, **recorded)
    key.unlink()
    with pytest.raises(CheckError, match="is not trusted here"):
        signing.verified(folder, signature, **recorded)
    signing.trusted(mark).rename(key)
    with pytest.raises(CheckError, match="does not match its file name"):
        signing.trusted(key.stem)
    with pytest.raises(CheckError, match="not trusted"):
        signing.trusted("../../etc/passwd")


def test_a_lost_key_is_not_replaced_in_silence(tmp_path: Path) -> None:
    signing.check_key(lambda: False)  # a new project
    with pytest.raises(InputError, match=r"signing\.pem: the private signing key is missing"):
        signing.check_key(lambda: True)
    assert not (state_dir() / "keys/signing.pem").exists()


def test_a_clone_brings_the_public_key(signed, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, signature, key = signed
    monkeypatch.chdir(folder.parent)
    assert signing.publish() == Path("trusted_keys") / key.name
    recorded = {"sha256": sha256_file(signature), "key": key.stem}
    for other in ("a", "b"):
        monkeypatch.setenv("IML_STATE", str(folder.parent / f"state-{other}"))  # an auditor's
        if other == "b":
            monkeypatch.setenv("IML_TRUSTED_KEYS", str(folder.parent / "nothing"))
        signing.verified(folder, signature, **recorded)
    Path("trusted_keys", key.name).unlink()
    with pytest.raises(CheckError, match="is not trusted here"):
        signing.verified(folder, signature, **recorded)


def test_the_generated_key_is_its_owners_alone(signed) -> None:
    key = state_dir() / "keys/signing.pem"
    assert key.stat().st_mode & 0o777 == 0o600
    key.chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        signing.sign(signed[0], signed[1])


def test_processes_that_sign_first_at_once_agree_on_one_key(folder: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        marks = list(pool.map(lambda n: signing.sign(folder, folder.parent / f"{n}.sig"), range(8)))
    assert len(set(marks)) == 1
    assert [p.name for p in (state_dir() / "keys").iterdir() if p.is_file()] == ["signing.pem"]


def write_key(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> Path:
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    path.chmod(0o600)
    return path


def test_a_managed_key(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signature = tmp_path / "v.sig"
    good = write_key(tmp_path / "p384.pem", ec.generate_private_key(ec.SECP384R1()))
    monkeypatch.setenv("IML_SIGNING_KEY", str(good))
    monkeypatch.setenv("IML_TRUSTED_KEYS", str(tmp_path / "trusted"))
    mark = signing.sign(folder, signature)
    assert os.listdir(tmp_path / "trusted") == [f"{mark}.pem"]
    assert signing.verify(folder, signature, signing.trusted(mark)) == mark
    assert not (state_dir() / "keys").exists()
    (tmp_path / "text.pem").write_text("x")
    (tmp_path / "text.pem").chmod(0o600)
    rsa_key = write_key(tmp_path / "rsa.pem", rsa.generate_private_key(65537, 2048))
    for path, said in (
        (tmp_path / "none.pem", "no such signing key"),
        (tmp_path / "text.pem", "not a private key"),
        (rsa_key, "not an elliptic-curve key"),
        (
            write_key(tmp_path / "k1.pem", ec.generate_private_key(ec.SECP256K1())),
            "not an elliptic",
        ),
    ):
        monkeypatch.setenv("IML_SIGNING_KEY", str(path))
        with pytest.raises(InputError, match=said):
            signing.sign(folder, signature)
    for path, said in ((tmp_path / "none", "no such public key"), (good, "not a public key")):
        with pytest.raises(InputError, match=said):
            signing.verify(folder, signature, path)
