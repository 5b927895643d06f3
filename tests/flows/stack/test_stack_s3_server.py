"""Who the stack's S3 server lets in: boto3 signs, the guard judges, an application counts."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.credentials import Credentials

from flows.stack.s3_server import guarded

KEYS = Credentials("id-of-the-stack", "secret-of-the-stack")
HOST = "http://127.0.0.1:9000"


def client(secret: str = KEYS.secret_key, key: str = KEYS.access_key) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=HOST,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        region_name="us-east-1",
        config=Config(signature_version="s3v4"),
    )


def passes(method: str, url: str, headers: dict[str, str] | None = None) -> bool:
    """Whether a request reaches the application behind the guard."""
    parts = urlsplit(url)
    given = {"host": parts.netloc, **(headers or {})}
    scope = {
        "type": "http",
        "method": method,
        "path": parts.path,
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "headers": [(k.lower().encode(), v.encode()) for k, v in given.items()],
    }
    seen: list[int] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"status": 200})

    async def send(message: dict[str, Any]) -> None:
        seen.append(message.get("status", 0))

    asyncio.run(guarded(application, KEYS)(scope, None, send))
    return seen[0] == 200


def signed(caller: Any, key: str) -> tuple[str, str, dict[str, str]]:
    """A signed GET, caught before it is sent."""
    caught: list[Any] = []

    def catch(request: Any, **_: Any) -> Any:
        caught.append(request)
        raise InterruptedError

    caller.meta.events.register("before-send.s3.GetObject", catch)
    with pytest.raises(InterruptedError):
        caller.get_object(Bucket="photos", Key=key)
    texts = {
        name: value.decode() if isinstance(value, bytes) else str(value)
        for name, value in caught[0].headers.items()
    }
    return caught[0].method, caught[0].url, texts


@pytest.mark.parametrize("key", ["a.jpg", "ä b/+x~.txt", "a//b?c=d&e"])
def test_the_holder_of_the_keys_gets_in(key: str) -> None:
    assert passes(*signed(client(), key))
    parameters = {"Bucket": "photos", "Key": key, "ResponseContentDisposition": "x y; z"}
    assert passes("GET", client().generate_presigned_url("get_object", Params=parameters))


def test_others_do_not() -> None:
    assert not passes(*signed(client(secret="guessed"), "a.jpg"))
    assert not passes(*signed(client(key="guessed"), "a.jpg"))
    assert not passes("GET", f"{HOST}/photos/a.jpg")
    assert not passes("GET", f"{HOST}/photos/a.jpg", {"authorization": "AWS4-HMAC-SHA256 x"})


def test_a_signature_is_for_one_request_alone() -> None:
    method, url, headers = signed(client(), "a.jpg")
    assert not passes("DELETE", url, headers)
    assert not passes(method, url.replace("a.jpg", "b.jpg"), headers)
    assert not passes(method, url, {**headers, "X-Amz-Date": "20200101T000000Z"})
    parameters = {"Bucket": "photos", "Key": "a.jpg"}
    address = client().generate_presigned_url("get_object", Params=parameters, ExpiresIn=60)
    assert passes("GET", address)
    assert not passes("PUT", address)
    assert not passes("GET", address.replace("Expires=60", "Expires=600"))
    late = client().generate_presigned_url("get_object", Params=parameters, ExpiresIn=0)
    assert not passes("GET", late)


def test_the_servers_own_administration_is_closed() -> None:
    assert passes("GET", f"{HOST}/_ministack/health")
    assert not passes("POST", f"{HOST}/_ministack/reset")
    assert not passes("POST", f"{HOST}/_ministack/health")
