"""Signatures of a version's folder, in the OpenSSF model-signing format.

The private key is `$IML_SIGNING_KEY` (PEM, elliptic curve, e.g. mounted from a vault); where that
is unset, `.state/keys/signing.pem` is generated once, readable by its owner alone. Trusted public
keys are in `$IML_TRUSTED_KEYS` (default `.state/keys/trusted`) and in the project's `trusted_keys`,
which is in git, one `FINGERPRINT.pem` each; signing adds the signer's own to the first, so versions
signed before a change of keys still verify.

A signature is a Sigstore bundle that names every file with its SHA-256; anybody can check it with
`model_signing verify key FOLDER --signature FILE --public_key FINGERPRINT.pem`.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shlex
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from components.core.errors import EvidenceError, InputError
from components.core.files import atomic, read_json, sha256_bytes, sha256_file, write_bytes
from components.core.paths import PUBLIC_KEYS, SIGNING_KEY, TRUSTED_KEYS, state_dir

if TYPE_CHECKING:
    from model_signing.hashing import Config as Hashing

KEY, TRUSTED = "IML_SIGNING_KEY", "IML_TRUSTED_KEYS"
_CURVES = ("secp256r1", "secp384r1", "secp521r1")  # what the format allows
_END = r"[\"'](?:, [\"']|\])"
_DIFFERENCES = (
    (r"Hash mismatch for '(.+?)': Expected", "was changed"),
    (r"Missing files in model '.*?': (.+?)" + _END, "is missing"),
    (r"Extra files found in model '.*?': (.+?)" + _END, "was added"),
)


def sign(folder: Path, signature: Path) -> str:
    """Sign every file of a folder into a file outside it; gives the fingerprint of the key.

    Raises InputError for an unusable key.
    """
    from model_signing.signing import Config

    key = _private_key()
    mark = _trust(_loaded(key))
    with atomic(signature) as temporary:
        config = Config().set_hashing_config(_hashing())
        config.use_elliptic_key_signer(private_key=key).sign(folder, temporary)
    return mark


@dataclass(frozen=True)
class Signer:
    """The key to sign with, loaded.

    Attributes:
        mark: its fingerprint.
    """

    mark: str
    _key: ec.EllipticCurvePrivateKey

    def sign(self, text: str) -> bytes:
        """ECDSA of SHA-256 of a text's UTF-8, DER."""
        return self._key.sign(text.encode(), ec.ECDSA(hashes.SHA256()))

    def seal(self, data: bytes) -> bytes:
        """ECDSA of the hash that belongs to the key's curve, DER, as public verifiers expect."""
        return self._key.sign(data, ec.ECDSA(_hash_of(self._key.curve)))


def signer() -> Signer:
    """The key to sign with; its public half is trusted from now on.

    Raises InputError for an unusable key.
    """
    key = _loaded(_private_key())
    return Signer(_trust(key), key)


def signed_text(text: str, signature: bytes, public_key: Path) -> bool:
    """Whether `Signer.sign` made a signature of a text with the private half of a key."""
    return _made(signature, text.encode(), public_key, lambda curve: hashes.SHA256())


def sealed(data: bytes, signature: bytes, public_key: Path) -> bool:
    """The same of `Signer.seal`."""
    return _made(signature, data, public_key, _hash_of)


def _made(
    signature: bytes,
    data: bytes,
    public_key: Path,
    hashed: Callable[[ec.EllipticCurve], hashes.HashAlgorithm],
) -> bool:
    key = serialization.load_pem_public_key(public_key.read_bytes())
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    try:
        key.verify(signature, data, ec.ECDSA(hashed(key.curve)))
    except InvalidSignature:
        return False
    return True


def _hash_of(curve: ec.EllipticCurve) -> hashes.HashAlgorithm:
    return {256: hashes.SHA256, 384: hashes.SHA384}.get(curve.key_size, hashes.SHA512)()


def verify(
    folder: Path,
    signature: Path,
    public_key: Path,
    erased: Callable[[set[str]], bool] | None = None,
) -> str:
    """Check that a folder holds exactly the signed files; gives the key's fingerprint.

    Args:
        folder: the files.
        signature: of them.
        public_key: whose signature it must be.
        erased: whether files of these SHA-256 were erased, so that they may be absent.

    Raises:
        InputError: an unusable public key.
        EvidenceError: a file differs, is missing or was added; the signature is damaged, or another
            key made it.
    """
    from model_signing.verifying import Config

    mark = fingerprint(public_key)
    if not signature.is_file():
        raise EvidenceError("has no signature", where=str(folder))
    config = Config().set_hashing_config(_hashing())
    try:
        config.use_elliptic_key_verifier(public_key=public_key).verify(folder, signature)
    except InvalidSignature:
        raise EvidenceError("its signature was not made by this key", where=str(folder)) from None
    except Exception as error:  # the library raises whatever a damaged bundle makes it trip over
        # Raised when the signature has been verified and the files alone differ.
        files_differ = str(error).startswith("Signature mismatch: ")
        gone = absent(folder, signature, whole=True) if files_differ else set()
        if not (gone and erased and erased(gone)):
            raise EvidenceError(_difference(str(error)), where=str(folder)) from None
    return mark


def absent(folder: Path, signature: Path, *, whole: bool = False) -> set[str]:
    """SHA-256 of the files that a signature names and the folder lacks.

    With `whole`, nothing where one of the others differs from what was signed, or one was added.
    """
    envelope = read_json(signature)["dsseEnvelope"]
    predicate = json.loads(base64.b64decode(envelope["payload"]))["predicate"]
    signed = {row["name"]: row["digest"] for row in predicate["resources"]}
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}
    same = there <= signed.keys() and all(
        sha256_file(folder / name) == signed[name] for name in there
    )
    return set() if whole and not same else {signed[name] for name in signed.keys() - there}


def fingerprint(public_key: Path) -> str:
    """SHA-256 of a public key (DER), by which the ledger names it."""
    try:
        loaded = serialization.load_pem_public_key(public_key.read_bytes())
    except FileNotFoundError:
        raise InputError("no such public key", where=str(public_key)) from None
    except (ValueError, UnsupportedAlgorithm):
        raise InputError("not a public key in PEM", where=str(public_key)) from None
    return sha256_bytes(loaded.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def place(mark: str) -> Path:
    """Where this machine keeps the key with this fingerprint, if it trusts it."""
    return _trusted_folder() / f"{mark}.pem"


def beginning(mark: str) -> list[Path]:
    """The trusted public keys whose fingerprints begin so."""
    folders = (_trusted_folder(), PUBLIC_KEYS)
    names = {path.stem for folder in folders for path in folder.glob(f"{mark}*.pem")}
    return [trusted(name) for name in sorted(names)]


class UntrustedError(EvidenceError):
    """A key that this machine does not trust."""


def trusted(mark: str, *, to_run: bool = False) -> Path:
    """The trusted public key with this fingerprint.

    Args:
        mark: the fingerprint.
        to_run: whether code that it signed is to be run: then a key that came with the project,
            which may be a stranger's, is not enough.

    Raises:
        UntrustedError: there is none.
        EvidenceError: the file of that name holds another key.
    """
    own, came = place(mark), PUBLIC_KEYS / f"{mark}.pem"
    path = next((place for place in (own, came) if os.path.isfile(place)), None)
    if path is None or not re.fullmatch(r"[0-9a-f]{64}", mark):
        raise UntrustedError(
            f"the key {mark[:16]} that signed it is not trusted here",
            where=str(own.parent),
            hint=f"if you know whose it is, put it there as {own.name}",
        )
    if fingerprint(path) != mark:
        raise EvidenceError("this key does not match its file name", where=str(path))
    if to_run and path != own:
        raise UntrustedError(
            f"the key {mark[:16]} that signed it came with the project: it verifies signatures, "
            "but lets no code run",
            where=str(path),
            hint=f"if you trust its owner, copy {path} into {own.parent}",
        )
    return path


def refusal(mark: str) -> EvidenceError | None:
    """Why code that the key with this fingerprint signed may not be run here; None if it may."""
    try:
        trusted(mark, to_run=True)
    except EvidenceError as error:
        return error
    return None


def verified(
    folder: Path,
    signature: Path,
    *,
    sha256: str,
    key: str,
    erased: Callable[[set[str]], bool] | None = None,
) -> None:
    """Check a fetched folder and its signature against the ledger: its hash and the signer's key.

    Raises EvidenceError: not the recorded signature, an unknown signer, or files that differ.
    """
    if not signature.is_file() or sha256_file(signature) != sha256:
        raise EvidenceError("its signature is not the one that was registered", where=str(folder))
    verify(folder, signature, trusted(key), erased)


def _hashing() -> Hashing:
    from model_signing.hashing import Config

    # Every file counts: what is left out by default could be slipped in.
    return Config().set_ignored_paths(paths=[], ignore_git_paths=False)


def _difference(message: str) -> str:
    """The library's message, which holds a printed list, as one short sentence."""
    message = message.replace("\\'", "'")
    for pattern, verb in _DIFFERENCES:
        if found := re.findall(pattern, message):
            names = ", ".join(found)
            return f"{names[:200]} {verb} since it was signed"
    if "Key mismatch" in message:
        return "its signature was not made by this key"
    return "its signature is damaged"


def _trusted_folder() -> Path:
    own = os.environ.get(TRUSTED, "").strip()
    return Path(own) if own else state_dir() / TRUSTED_KEYS


def check_key(signed: Callable[[], bool] = lambda: False) -> None:
    """Raise InputError where the key to sign with has been lost; a first one need not be there.

    Args:
        signed: whether the ledger knows of signatures; asked only if no private key is there.
    """
    path, own = _key_place()
    # Looked for before the private key, which another process may just be making.
    known = not own and any((state_dir() / TRUSTED_KEYS).glob("*.pem"))
    if path.is_file():
        return
    if own:
        raise InputError("no such signing key", where=str(path), hint=f"check {KEY}")
    if known or signed():
        raise InputError(
            "the private signing key is missing, although versions have been signed",
            where=str(path),
            hint="restore it from a backup, or make a new one: (umask 077; openssl genpkey "
            f"-algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {shlex.quote(str(path))})",
        )


def publish() -> Path:
    """Write the public half of the key to sign with where git keeps it; gives the file."""
    mark = _trust(_loaded(_private_key()))
    path = PUBLIC_KEYS / f"{mark}.pem"
    if not path.is_file():
        write_bytes(path, trusted(mark).read_bytes())
    return path


def _key_place() -> tuple[Path, bool]:
    """Where the private key is, and whether the environment names the place."""
    named = os.environ.get(KEY, "").strip()
    return (Path(named) if named else state_dir() / SIGNING_KEY), bool(named)


def _private_key() -> Path:
    """The key to sign with; generated at the default place when there has never been one."""
    check_key()
    path, _ = _key_place()
    if not path.is_file():
        _generate(path)
    if path.stat().st_mode & stat.S_IRWXO:
        raise InputError(
            "this signing key is readable by every account",
            where=str(path),
            hint=f"chmod 600 {path}",
        )
    return path


def _generate(path: Path) -> None:
    """Make a key; of several processes that do so at once, the first one's stays."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    with open(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(text)
        os.fsync(file.fileno())
    try:
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()


def _loaded(key: Path) -> ec.EllipticCurvePrivateKey:
    try:
        loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InputError("not a private key in PEM without password", where=str(key)) from None
    if not isinstance(loaded, ec.EllipticCurvePrivateKey) or loaded.curve.name not in _CURVES:
        raise InputError("not an elliptic-curve key (P-256, P-384 or P-521)", where=str(key))
    return loaded


def _trust(key: ec.EllipticCurvePrivateKey) -> str:
    """Put the public half of a private key where `trusted` finds it; gives its fingerprint."""
    public, form = key.public_key(), PublicFormat.SubjectPublicKeyInfo
    mark = sha256_bytes(public.public_bytes(Encoding.DER, form))
    path = place(mark)
    if not path.is_file():
        write_bytes(path, public.public_bytes(Encoding.PEM, form))
    return mark
