"""MLflow's own signed webhooks: a champion that comes, goes back or is taken away."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from mlflow_server import mlflow_server
from registry_support import fill

from components.registry.ledger import Ledger
from components.registry.promotion import rollback
from components.registry.tracking import Store
from components.registry.versions import Registry

EVENTS: list[Any] = ["model_version_alias.created", "model_version_alias.deleted"]
SECRET = "of the receiver and MLflow"


class Receiver(http.server.BaseHTTPRequestHandler):
    """Keeps headers and body of what is posted."""

    posted: list[tuple[dict[str, str], bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.posted.append((dict(self.headers.items()), body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@contextmanager
def receiving() -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """The address of a receiver, and what it gets."""
    posted: list[tuple[dict[str, str], bytes]] = []
    handler = type("Handler", (Receiver,), {"posted": posted})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as hook:
        threading.Thread(target=hook.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{hook.server_port}/", posted
        hook.shutdown()


def checked(headers: dict[str, str], body: bytes, secret: str = SECRET) -> dict[str, Any]:
    """A message once its signature is right, as docs/PROMOTION.md says a receiver checks it."""
    sent = [headers[f"X-MLflow-{name}"] for name in ("Delivery-Id", "Timestamp")]
    digest = hmac.new(secret.encode(), ".".join([*sent, body.decode()]).encode(), hashlib.sha256)
    expected = f"v1,{base64.b64encode(digest.digest()).decode()}"
    assert hmac.compare_digest(headers["X-MLflow-Signature"], expected)
    assert abs(time.time() - int(sent[1])) < 300
    return json.loads(body)


def test_promotion_and_rollback_are_told_and_signed(
    tmp_path: Path, empty_store: Path, addresses: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = {
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": Fernet.generate_key().decode(),
        # A receiver on loopback; MLflow's own rules ask for https at a public address.
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    }
    with receiving() as (address, posted), mlflow_server(tmp_path, empty_store, **here) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
        store = Store()
        with store.client() as client:
            client.create_webhook("champion", address, EVENTS, secret=SECRET)
        registry = Registry(Ledger(), store, "m")
        fill(registry, tmp_path)  # version 1 becomes champion, then version 2
        rollback(registry, 1, actor="ann", reason="version 2 misses splices")
        registry.store.set_alias("m", None)
        limit = time.monotonic() + 60
        while len(posted) < 4 and time.monotonic() < limit:
            time.sleep(0.2)
    messages = [checked(*each) for each in posted]
    told = sorted((m["timestamp"], m["action"], m["data"].get("version")) for m in messages)
    assert [each[1:] for each in told] == [
        ("created", "1"), ("created", "2"), ("created", "1"), ("deleted", None)
    ]  # fmt: skip
    assert {(m["entity"], m["data"]["name"], m["data"]["alias"]) for m in messages} == {
        ("model_version_alias", "m", "champion")
    }
    assert SECRET.encode() not in (tmp_path / "server.db").read_bytes()
    with pytest.raises(AssertionError):
        checked(*posted[0], secret="another")
    with pytest.raises(AssertionError):
        checked(posted[0][0], posted[0][1].replace(b'"m"', b'"n"'))
