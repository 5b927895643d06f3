"""Caddy with the file of infra/, and a certificate of its own."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from project import ROOT

CADDYFILE = ROOT / "infra/kubernetes-tls/Caddyfile"


@dataclass(frozen=True)
class Proxy:
    """A proxy that answers; `ports` by the server behind."""

    ports: dict[str, int]
    certificate: Path

    def client(self, name: str) -> httpx.Client:
        """A client that trusts the certificate and nothing else."""
        trusting = ssl.create_default_context(cafile=self.certificate)
        address = f"https://localhost:{self.ports[name]}"
        return httpx.Client(base_url=address, verify=trusting, timeout=60)


def certify(folder: Path) -> Path:
    """Write `tls.crt` and `tls.key` of `localhost`, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    text = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    plain = serialization.NoEncryption()
    (folder / "tls.key").write_bytes(key.private_bytes(*text, plain))
    (folder / "tls.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return folder / "tls.crt"


@contextmanager
def proxied(folder: Path, largest: str = "2GB", **servers: str) -> Iterator[Proxy]:
    """Caddy in front of servers, by name: `mlflow`, `prefect` or `serve`, each as HOST:PORT."""
    if shutil.which("caddy") is None:
        pytest.skip("caddy is not installed; apt-get install caddy")
    ports = {name: _free_port() for name in ("mlflow", "prefect", "serve")}
    settings = {f"IML_{name.upper()}_TLS_PORT": str(port) for name, port in ports.items()}
    settings |= {f"IML_{name.upper()}": server for name, server in servers.items()}
    settings |= {"IML_CERTIFICATES": str(folder), "HOME": str(folder), "PATH": os.environ["PATH"]}
    settings["IML_LARGEST_UPLOAD"] = largest
    made = Proxy(ports, certify(folder))
    command = ["caddy", "run", "--config", CADDYFILE, "--adapter", "caddyfile"]
    with (
        open(folder / "caddy.log", "wb") as log,
        subprocess.Popen(command, env=settings, stdout=log, stderr=log) as process,
    ):
        try:
            _wait(ports["serve"], process, folder / "caddy.log")
            yield made
        finally:
            process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"caddy did not start: {log.read_text()[-2000:]}")
