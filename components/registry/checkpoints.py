"""Checkpoints of a ledger, kept where its writers cannot change them.

A checkpoint says how many rows a model's ledger has and what they are; it is signed by whoever
appended the last one, and written after every decision to `$IML_CHECKPOINTS`, a folder (in a git
clone, on another machine) or `s3://bucket/prefix` (with object lock), as `MODEL/ROWS.txt`. Rows
that are cut off or rewritten later contradict it, whoever changed the databases.

The format is C2SP's tlog-checkpoint, a signed note (https://c2sp.org/tlog-checkpoint,
https://c2sp.org/signed-note): origin, rows, root; the root is RFC 6962's Merkle tree hash, a row's
SHA-256 being a leaf's data. The signature is ECDSA of SHA-256 by the signing key, and the key's
hash in it the beginning of its fingerprint.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.errors import EvidenceError, InputError, UnavailableError, brief
from components.core.files import write_text
from components.registry import signing
from components.registry.chain import Row
from components.registry.signing import UntrustedError

SETTING = "IML_CHECKPOINTS"
_SEAL = "\N{EM DASH} "  # begins a signature's line
_HINT = f"check {SETTING} and, for S3, AWS_ENDPOINT_URL and the keys"


def publish(rows: Sequence[Row]) -> None:
    """Write the checkpoint of a model's rows where there is none of so many yet.

    Raises:
        InputError: no key to sign with.
        UnavailableError: the place does not answer; the next command writes it.
    """
    address = os.environ.get(SETTING, "").strip()
    if not address or not rows:
        return
    store, root = _store(address)
    path = f"{root}/{rows[-1].model}/{len(rows):08}.txt"
    with _answering(address):
        if store.exists(path):
            return
        text = made(rows)
        if "://" not in address:
            write_text(Path(path), text)
        else:
            store.pipe_file(path, text.encode())


def published(model: str) -> dict[str, str] | None:
    """A model's checkpoints by place, oldest first; None where no place is named.

    Raises UnavailableError where the place does not answer.
    """
    address = os.environ.get(SETTING, "").strip()
    if not address:
        return None
    store, root = _store(address)
    with _answering(address):
        found = sorted(store.glob(f"{root}/{model}/*.txt"))
        return {path: store.cat_file(path).decode("utf-8", "replace") for path in found}


def _store(address: str) -> tuple[Any, str]:
    """A file system and the path in it."""
    from fsspec.core import url_to_fs  # for one place or another: DVC's own way to S3

    try:
        store, root = url_to_fs(address, use_listings_cache=False)
    except (ValueError, ImportError) as error:
        raise InputError(f"cannot be used ({brief(error)})", where=SETTING, hint=_HINT) from None
    return store, root.rstrip("/")


@contextmanager
def _answering(address: str) -> Iterator[None]:
    """UnavailableError for whatever the library of the store raises."""
    try:
        yield
    except (InputError, UnavailableError):
        raise
    except Exception as error:
        what = f"the place of checkpoints does not answer ({brief(error)})"
        raise UnavailableError(what, where=address, hint=_HINT) from None


def made(rows: Sequence[Row]) -> str:
    """The checkpoint of a model's rows, signed; raises InputError where there is no key."""
    signer = signing.signer()
    origin = _origin(rows[-1].model)
    text = f"{origin}\n{len(rows)}\n{base64.b64encode(root(rows)).decode()}\n"
    seal = bytes.fromhex(signer.mark)[:4] + signer.sign(text)
    return f"{text}\n{_SEAL}{origin} {base64.b64encode(seal).decode()}\n"


def _origin(model: str) -> str:
    return f"boxpromptiml/ledger/{model}"


def root(rows: Sequence[Row]) -> bytes:
    """The Merkle tree hash of the rows' hashes (RFC 6962, 2.1)."""
    return _tree([bytes.fromhex(row.hash) for row in rows])


def _tree(leaves: Sequence[bytes]) -> bytes:
    if len(leaves) < 2:
        return hashlib.sha256(b"\0" + leaves[0] if leaves else b"").digest()
    half = 1 << (len(leaves) - 1).bit_length() - 1  # the largest power of two below
    return hashlib.sha256(b"\1" + _tree(leaves[:half]) + _tree(leaves[half:])).digest()


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as read: nothing of it has been verified."""

    text: str  # what is signed
    origin: str
    size: int
    root: bytes
    seals: tuple[tuple[str, bytes], ...]  # beginning of the key's fingerprint, signature


def parse(text: str) -> Checkpoint:
    """Read a checkpoint; raises EvidenceError where it is none."""
    try:
        body, _, seals = text.rpartition("\n\n")
        origin, size, digest, *_ = f"{body}\n".split("\n")
        if not size.isdecimal() or str(int(size)) != size:
            raise ValueError
        found = []
        for line in seals.removesuffix("\n").split("\n"):
            raw = base64.b64decode(line.removeprefix(_SEAL).split(" ")[1], validate=True)
            found.append((raw[:4].hex(), raw[4:]))
        decoded = base64.b64decode(digest, validate=True)
    except (ValueError, IndexError, binascii.Error):
        raise EvidenceError("is no checkpoint") from None
    return Checkpoint(f"{body}\n", origin, int(size), decoded, tuple(found))


def is_of(size: int, text: str) -> bool:
    """Whether a text says that it is a checkpoint of so many rows."""
    return text.split("\n")[1:2] == [str(size)]


def problems(rows: Sequence[Row], kept: Mapping[str, str]) -> Iterator[tuple[str, EvidenceError]]:
    """Where checkpoints contradict a model's rows: each one's place and what is wrong.

    Args:
        rows: the ledger, whose chain has been checked.
        kept: checkpoints by place.

    Yields:
        An UntrustedError where no trusted key signed one.
    """
    for place, text in kept.items():
        try:
            _check(parse(text), rows)
        except EvidenceError as error:
            yield place, error


def _check(checkpoint: Checkpoint, rows: Sequence[Row]) -> None:
    if not rows or checkpoint.origin != _origin(rows[-1].model):
        raise EvidenceError(f"is a checkpoint of {checkpoint.origin!r:.80}")
    trusted = [
        signing.signed_text(checkpoint.text, signature, key)
        for mark, signature in checkpoint.seals
        for key in signing.beginning(mark)
    ]
    if not trusted:
        raise UntrustedError("was not signed by a key that is trusted here")
    if not all(trusted):
        raise EvidenceError("was not signed by the key that it names")
    if checkpoint.size > len(rows):
        cut = f"{checkpoint.size} rows were seen, the ledger has {len(rows)}"
        raise EvidenceError(f"{cut}: the last ones were cut off, or this is another history")
    if root(rows[: checkpoint.size]) != checkpoint.root:
        first = f"the first {checkpoint.size} rows are not those that were seen"
        raise EvidenceError(f"{first}: they were rewritten, or this is another history")
