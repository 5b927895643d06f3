"""The S3 server of the stack: MiniStack's S3, files on disk, for the holder of one key pair.

A program of its own: it runs in the environment of infra/s3-server.txt and imports nothing of
this project. MiniStack itself answers whoever can reach it; here a request must be signed with the
stack's keys (AWS Signature 4, in the header or in a presigned address), and the server's own
administration (which could erase everything) is closed to all.

Settings: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, GATEWAY_PORT, S3_DATA_DIR; S3_HOST (loopback,
but in a container).
"""

from __future__ import annotations

import asyncio
import hmac
import os
import signal
import time
from calendar import timegm
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

Application = Callable[[dict[str, Any], Any, Any], Awaitable[None]]
HEALTH = "/_ministack/health"
_ALGORITHM = "AWS4-HMAC-SHA256"
_SIGNATURE = "X-Amz-Signature"
_SKEW = 900  # seconds by which clocks may differ, as at AWS


def guarded(application: Application, keys: Credentials) -> Application:
    """An ASGI application that passes on only requests signed with `keys`."""

    async def guard(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http" and not _allowed(scope, keys):
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b"access denied\n"})
            return
        await application(scope, receive, send)

    return guard


def _allowed(scope: dict[str, Any], keys: Credentials) -> bool:
    if scope["path"] == HEALTH:
        return scope["method"] == "GET"
    if scope["path"].startswith("/_"):
        return False
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    query = scope["query_string"].decode("latin-1")
    try:
        if "authorization" in headers:
            return _signed(scope, headers, query, keys)
        return _presigned(scope, headers, query, keys)
    except (KeyError, ValueError):
        return False


def _signed(scope: dict[str, Any], headers: dict[str, str], query: str, keys: Credentials) -> bool:
    """Whether the `Authorization` header is right for method, address and signed headers."""
    algorithm, _, rest = headers["authorization"].partition(" ")
    claim = dict(part.strip().split("=", 1) for part in rest.split(","))
    moment = headers["x-amz-date"]
    known = _known(claim["Credential"], keys) and algorithm == _ALGORITHM
    if not known or abs(time.time() - _seconds(moment)) > _SKEW:
        return False
    names = claim["SignedHeaders"].split(";")
    auth = S3SigV4Auth(keys, "s3", claim["Credential"].split("/")[2])
    signature = _signature(auth, scope, query, {n: headers[n] for n in names}, moment)
    return hmac.compare_digest(signature, claim["Signature"])


def _presigned(
    scope: dict[str, Any], headers: dict[str, str], query: str, keys: Credentials
) -> bool:
    """Whether a presigned address is right and has not run out."""
    claim = dict(parse_qsl(query, keep_blank_values=True))
    moment, life = claim["X-Amz-Date"], int(claim["X-Amz-Expires"])
    known = _known(claim["X-Amz-Credential"], keys) and claim["X-Amz-Algorithm"] == _ALGORITHM
    age = time.time() - _seconds(moment)
    if not known or not -_SKEW < age < min(life, 7 * 86400):
        return False
    names = claim["X-Amz-SignedHeaders"].split(";")
    rest = "&".join(part for part in query.split("&") if not part.startswith(f"{_SIGNATURE}="))
    auth = S3SigV4QueryAuth(keys, "s3", claim["X-Amz-Credential"].split("/")[2])
    signed = {name: headers[name] for name in names}
    signature = _signature(auth, scope, rest, signed, moment)
    return hmac.compare_digest(signature, claim[_SIGNATURE])


def _known(credential: str, keys: Credentials) -> bool:
    return hmac.compare_digest(credential.split("/")[0].encode(), keys.access_key.encode())


def _seconds(moment: str) -> int:
    return timegm(time.strptime(moment, "%Y%m%dT%H%M%SZ"))


def _signature(
    auth: S3SigV4Auth | S3SigV4QueryAuth,
    scope: dict[str, Any],
    query: str,
    headers: dict[str, str],
    moment: str,
) -> str:
    """What a holder of the keys would have signed this request with."""
    address = f"http://{headers['host']}{scope['raw_path'].decode('latin-1')}"
    url = f"{address}?{query}" if query else address
    request = AWSRequest(method=scope["method"], url=url, headers=headers)
    request.context["timestamp"] = moment
    canonical = auth.canonical_request(request)
    return auth.signature(auth.string_to_sign(request, canonical), request)


async def _serve(application: Application, port: int) -> None:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    config = Config()
    config.bind = [f"{os.environ.get('S3_HOST', '127.0.0.1')}:{port}"]
    config.keep_alive_timeout = 75
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    await serve(application, config, shutdown_trigger=ending.wait)  # type: ignore[arg-type]


def main() -> None:
    """Serve until SIGTERM."""
    os.environ.update({"SERVICES": "s3", "S3_PERSIST": "1", "PERSIST_STATE": "0"})
    from ministack.app import app

    keys = Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
    asyncio.run(_serve(guarded(app, keys), int(os.environ["GATEWAY_PORT"])))


if __name__ == "__main__":
    main()
