"""Who may ask the page's server, and what it refuses."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from annotate_support import Served, annotating, decisions, scene

BOX = [10, 10, 60, 50]
ALL = [
    ("GET", "about"),
    ("GET", "report"),
    ("GET", "photo/0"),
    ("POST", "open"),
    ("POST", "mask"),
    ("POST", "decide"),
]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("server")
    secret = scene(folder / "secret.jpg", 100, 80, 1)
    for number in range(3):
        scene(folder / f"photos/{number}.jpg", 100, 80, number)
    (folder / "photos/link.jpg").symlink_to(secret)
    return folder


@pytest.fixture(scope="module")
def served(workspace: Path) -> Iterator[Served]:
    with annotating(workspace, "photos", "--into", "desk") as served:
        yield served


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    headers = {"X-Token": served.token, "Origin": served.origin}
    with httpx.Client(base_url=f"{served.origin}/api/", headers=headers, timeout=60) as client:
        yield client


def body(**more: object) -> dict[str, object]:
    return {"annotator": "Ada", **more}


DECIDED = body(photo=0, mark="manipulated", boxes=[BOX], seconds=1.5)


@pytest.mark.parametrize(("method", "path"), ALL)
def test_nothing_without_the_token(served: Served, method: str, path: str) -> None:
    for token in ({}, {"X-Token": ""}, {"X-Token": "x" * 43}, {"X-Token": served.token[:-1]}):
        for place in (path, f"{path}?token={served.token}"):
            answer = httpx.request(method, f"{served.origin}/api/{place}", headers=token, json={})
            assert answer.status_code == 401
            assert set(answer.json()) == {"detail"}


@pytest.mark.parametrize(("method", "path"), ALL)
def test_no_page_of_another_site(client: httpx.Client, method: str, path: str) -> None:
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", "http://localhost"):
        answer = client.request(method, path, headers={"Origin": origin}, json={})
        assert answer.status_code == 403
    answer = client.request(method, path, headers={"Host": "evil.example"}, json={})
    assert answer.status_code == 400
    preflight = client.options(path, headers={"Access-Control-Request-Headers": "X-Token"})
    assert "access-control-allow-origin" not in preflight.headers


def test_another_servers_token_is_refused(
    tmp_path: Path, client: httpx.Client, served: Served
) -> None:
    scene(tmp_path / "photos/a.jpg", 80, 60, 1)
    with annotating(tmp_path, "photos", "--into", "other") as other:
        assert other.token != served.token
        assert client.get("about", headers={"X-Token": other.token}).status_code == 401


def test_the_page_loads_only_its_own(served: Served) -> None:
    answer = httpx.get(served.origin)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert served.token not in answer.text
    assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(
    "path",
    [
        *("..%2f..%2fsecret.jpg", "%2e%2e/secret.jpg", "../../etc/passwd", "0%00", "-1", "99"),
        *("0/../../../secret.jpg", "1e0", "99999999999999999999"),
    ],
)
def test_a_photo_is_a_number(client: httpx.Client, path: str) -> None:
    assert client.get(f"photo/{path}").status_code in (400, 404, 422)


def test_static_files_are_a_list(served: Served) -> None:
    port = int(served.origin.rpartition(":")[2])
    for path in ("/../server.py", "/..%2fserver.py", "/page/index.html", "//etc/passwd"):
        with socket.create_connection(("127.0.0.1", port)) as raw:  # clients tidy paths up
            raw.sendall(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
            assert b" 404 " in raw.recv(100)


def test_a_link_out_of_the_source_is_no_photo(client: httpx.Client) -> None:
    answer = client.get("photo/3")
    assert (answer.status_code, answer.json()["detail"]) == (
        400,
        "link.jpg: a link that leads out of the folder; replace the file or leave it out",
    )
    said = body(photo=3, mark="authentic", boxes=[], seconds=1)
    assert client.post("decide", json=said).status_code == 400


def test_a_large_body_is_refused(client: httpx.Client) -> None:
    answer = client.post("decide", json=body(photo=0, mark="x" * 300_000))
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "wrong",
    [
        {"annotator": ""},
        {"annotator": "a" * 81},
        {"annotator": "a\nb"},
        {"mark": "fake"},
        {"mark": "authentic"},
        {"boxes": []},
        {"boxes": [[1, 2, 3]]},
        {"boxes": [[30, 30, 10, 10]]},
        {"boxes": [[200, 10, 300, 50]]},
        {"boxes": [BOX] * 201},
        {"boxes": "all"},
        {"seconds": -1},
        {"seconds": 1e9},
        {"photo": 7},
        {"more": 1},
    ],
    ids=str,
)
def test_a_decision_that_makes_no_sense_is_not_kept(
    client: httpx.Client, workspace: Path, wrong: dict[str, object]
) -> None:
    answer = client.post("decide", json={**DECIDED, **wrong})
    assert answer.status_code in (400, 422)
    assert "\n" not in answer.json()["detail"]
    assert not decisions(workspace)


def test_numbers_that_are_none(client: httpx.Client) -> None:
    text = '{"annotator": "Ada", "photo": 0, "box": [NaN, 0, 10, Infinity]}'
    answer = client.post("mask", content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)


def test_a_second_server_for_the_same_photos_is_refused(served: Served, workspace: Path) -> None:
    with (
        pytest.raises(AssertionError, match="photos is being annotated already"),
        annotating(workspace, "photos", "--into", "desk"),
    ):
        pass
