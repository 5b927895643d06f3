"""The Prefect server that the environment names: it must answer."""

from __future__ import annotations

import http.server
import threading

import pytest

from components.core.errors import InputError, UnavailableError
from flows.settings import require_server


def test_no_address_needs_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", None)  # any attempt would fail
    assert require_server() is None


@pytest.mark.parametrize("address", ["file:///etc/passwd", "localhost:4200"])
def test_what_is_no_address_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", address)
    with pytest.raises(InputError, match="not an address"):
        require_server()


def test_a_dead_server_is_one_line(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port}/api")
    with pytest.raises(UnavailableError, match=r"the Prefect server does not answer"):
        require_server()


asked: list[str] = []


class Healthy(http.server.BaseHTTPRequestHandler):
    """Answers as Prefect's health check does."""

    def do_GET(self) -> None:
        asked.append(self.path)
        self.send_response(200 if self.path == "/api/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay silent."""


def test_a_living_server_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    asked.clear()
    with http.server.HTTPServer(("127.0.0.1", 0), Healthy) as server:
        threading.Thread(target=server.handle_request).start()
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{server.server_port}/api/")
        require_server()
    assert asked == ["/api/health"]
