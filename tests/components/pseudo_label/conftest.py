"""Weights of a tiny Segment Anything, and a file server that can misbehave."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from pseudo_label_support import tiny_sam


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of `tiny_sam` in the official format: a plain state dict in a .pth."""
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save(tiny_sam().state_dict(), path)
    return path


@dataclass
class Server:
    """One file under /weights.pth; `moods` says how each request in turn is answered."""

    body: bytes
    moods: list[str] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)
    base: str = ""

    @property
    def url(self) -> str:
        return f"{self.base}/weights.pth"


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            server.ranges.append(asked)
            mood = server.moods.pop(0) if server.moods else "whole"
            if mood == "missing":
                return self.send_error(404)
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
            if mood == "no ranges":
                start = 0
            body = server.body + (b"more" if mood == "too long" else b"")
            rest = body[start:]
            self.send_response(206 if start else 200)
            if start:
                stated = start + (mood == "shifted")
                self.send_header("Content-Range", f"bytes {stated}-{len(body) - 1}/{len(body)}")
            if mood != "unannounced":
                self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self._send(mood, rest)

        def _send(self, mood: str, rest: bytes) -> None:
            if mood == "cut":
                rest = rest[: len(rest) // 2]
            if mood == "corrupt":
                rest = b"X" + rest[1:]
            try:
                if mood == "hang":
                    self.wfile.flush()
                    time.sleep(3)
                elif mood == "trickle":
                    for offset in range(0, 40):
                        self.wfile.write(rest[offset : offset + 1])
                        self.wfile.flush()
                        time.sleep(0.05)
                else:
                    self.wfile.write(rest + (b"more" if mood == "unannounced" else b""))
            except (BrokenPipeError, ConnectionResetError):
                pass

    return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server(np.random.default_rng(1).bytes(300_000))
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    state.base = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield state
    http.shutdown()
    http.server_close()
