"""Notices reach a webhook, say nothing secret, and never fail a run."""

from __future__ import annotations

import http.server
import json
import logging
import threading
from collections.abc import Iterator

import pytest

from flows import notify


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, str]]]:
    """What was posted to the address in `IML_NOTIFY`."""
    posted: list[dict[str, str]] = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv(notify.SETTING, f"json://127.0.0.1:{server.server_port}")
        yield posted
        server.shutdown()


@pytest.mark.parametrize("event", notify.EVENTS)
def test_every_event_arrives(webhook: list[dict[str, str]], event: str) -> None:
    assert notify.send(event, "version 2 of m")
    (notice,) = webhook
    assert notice["title"] == f"BoxPromptIML: {event}"
    assert notice["message"] == "version 2 of m"
    assert notice["type"] == ("failure" if event == "failed" else "info")


def test_no_address_no_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(notify.SETTING, raising=False)
    assert notify.send("failed", "x")


def test_a_dead_address_is_a_warning_without_its_token(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, free_port: int
) -> None:
    monkeypatch.setenv(notify.SETTING, f"json://me:s3cr3t@127.0.0.1:{free_port} nonsense")
    with caplog.at_level(logging.WARNING, logger="flows.notify"):
        assert not notify.send("promoted", "x")
    mine = [r.getMessage() for r in caplog.records if r.name == "flows.notify"]
    assert mine == ["the notice 'promoted' did not reach every address of IML_NOTIFY"]
    assert "s3cr3t" not in caplog.text
