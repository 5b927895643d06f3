"""Photos with real content credentials, signed by a certificate chain made for the test."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from io import BytesIO
from typing import Any

import c2pa
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from PIL import Image

SIGNER = "Signer <i>of a test</i>"


def photo(size: tuple[int, int] = (80, 120), seed: int = 0, kind: str = "JPEG") -> bytes:
    """The file of a photo of noise."""
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind, quality=90)
    return file.getvalue()


def _certificate(
    subject: str, issuer: str, key: ec.EllipticCurvePrivateKey, by: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    """One that C2PA's profile accepts: of an authority where it signs itself, else of a signer."""
    authority, now = subject == issuer, datetime.now(UTC)

    def name(common: str) -> x509.Name:
        parts = {NameOID.ORGANIZATION_NAME: "Test desk", NameOID.COMMON_NAME: common}
        return x509.Name([x509.NameAttribute(oid, text) for oid, text in parts.items()])

    usage = [not authority, *[False] * 4, authority, authority, False, False]
    builder = (
        x509.CertificateBuilder(name(issuer), name(subject), key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
        .add_extension(x509.KeyUsage(*usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False
        )
    )
    if not authority:
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(purpose, critical=False)
    return builder.sign(by, hashes.SHA256())


@cache
def _signer() -> c2pa.Signer:
    root, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    chain = [
        _certificate(SIGNER, "Root", own, root),
        _certificate("Root", "Root", root, root),
    ]
    pem = serialization.Encoding.PEM
    key = own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    certificates = b"".join(one.public_bytes(pem) for one in chain)
    return c2pa.Signer.from_info(c2pa.C2paSignerInfo("es256", certificates, key, None))


def builder(title: str = "A title", **action: str) -> c2pa.Builder:
    """A manifest of a photo that a camera took."""
    done = {"action": "c2pa.created", "digitalSourceType": "http://x/digitalCapture"} | action
    manifest: dict[str, Any] = {
        "claim_generator_info": [{"name": "Test camera", "version": "1.0"}],
        "title": title,
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [done]}}],
    }
    return c2pa.Builder(manifest)


def signed(data: bytes, manifest: c2pa.Builder | None = None, mime: str = "image/jpeg") -> bytes:
    """The photo's file with the manifest in it."""
    out = BytesIO()
    (manifest or builder()).sign(_signer(), mime, BytesIO(data), out)
    return out.getvalue()


def altered(data: bytes) -> bytes:
    """With one bit of the pixels of a JPEG changed."""
    place = len(data) - 200
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
