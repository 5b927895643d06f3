"""TLS in front of the servers: the proxy of infra/ as a real process, before a real `iml serve`.

MLflow and Prefect behind it: tests/e2e/test_attacks.py.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import httpx
import pytest
from served import Served, serving
from small_students import small_student
from tls_proxy import Proxy, proxied

from components.export.onnx import save


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    save(small_student().eval(), folder / "student")
    with serving(folder / "student", folder) as made:
        yield made


@pytest.fixture(scope="module")
def proxy(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    behind = served.address.removeprefix("http://")
    with proxied(tmp_path_factory.mktemp("proxy"), serve=behind) as made:
        yield made


def test_it_answers_by_tls_what_the_server_behind_answers(proxy: Proxy, served: Served) -> None:
    with proxy.client("serve") as client:
        answer = client.get("/health")
        assert (answer.status_code, answer.json()) == (
            200,
            httpx.get(f"{served.address}/health").json(),
        )
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_without_tls_or_with_an_old_one_nothing_is_answered(proxy: Proxy) -> None:
    port = proxy.ports["serve"]
    assert httpx.get(f"http://localhost:{port}/health").status_code == 400
    old = ssl.create_default_context(cafile=proxy.certificate)
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("localhost", port)) as plain,
        pytest.raises(ssl.SSLError, match=r"PROTOCOL_VERSION|protocol version"),
    ):
        old.wrap_socket(plain, server_hostname="localhost")
    with pytest.raises(httpx.ConnectError, match=r"self.signed"):
        httpx.get(f"https://localhost:{port}/health")
