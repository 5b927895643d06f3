"""An app behind `protect`, served by a real server and asked by a real client."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from components.core import web
from components.core.errors import InputError

_PROGRAM = """
import sys
from fastapi import FastAPI, Request
from components.core import web
from components.core.errors import InputError, UnavailableError
app = FastAPI()
web.describe_errors(app)

@app.post("/size")
async def size(request: Request) -> int:
    return len(await request.body())

@app.post("/field")
def field(number: int) -> int:
    raise {1: InputError("wrong", where="here"), 2: UnavailableError("away")}[number]

listener = web.listen("127.0.0.1", 0)
port = listener.getsockname()[1]
guarded = web.protect(app, ["127.0.0.1"], 1000)
web.run(guarded, listener, lambda: print(port, flush=True))
print("stopped", flush=True)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    process = subprocess.Popen([sys.executable, "-c", _PROGRAM], stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}", process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def address(server: tuple[str, subprocess.Popen[str]]) -> str:
    return server[0]


def test_answers_carry_headers_that_keep_other_sites_out(address: str) -> None:
    answer = httpx.post(f"{address}/size", content=b"x" * 1000)
    assert answer.json() == 1000
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "server" not in answer.headers


def test_a_name_of_another_site_is_refused(address: str) -> None:
    assert httpx.post(f"{address}/size", headers={"Host": "evil.example"}).status_code == 400


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large_is_refused(address: str, announced: bool) -> None:
    body = b"x" * 1001
    answer = httpx.post(f"{address}/size", content=body if announced else iter([body]))
    assert answer.status_code == 413
    assert answer.json() == {"detail": "the request has more than 0.001 MB"}


def test_errors_are_one_line(address: str) -> None:
    answer = httpx.post(f"{address}/field", params={"number": 1})
    assert (answer.status_code, answer.json()) == (400, {"detail": "here: wrong"})
    answer = httpx.post(f"{address}/field", params={"number": 2})
    assert (answer.status_code, answer.json()) == (503, {"detail": "away"})
    answer = httpx.post(f"{address}/field", params={"number": "many"})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("query.number: ")


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"127.0.0.1:{port}: cannot listen"):
            web.listen("127.0.0.1", port)
    with pytest.raises(InputError, match="cannot listen"):
        web.listen("127.0.0.1", 70000)


def test_it_ends_on_a_signal(server: tuple[str, subprocess.Popen[str]]) -> None:
    _, process = server
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) in (0, -signal.SIGTERM)
