"""The S3 server of the stack: MiniStack's S3, files on disk, for the holder of one access key.

A program of its own: it runs in the environment of infra/s3-server.txt and imports nothing of
this project. MiniStack itself answers whoever can reach it; here a request must name the random
access key id of the stack, which stands only in a file of mode 0600, and the server's own
administration (which could erase everything) is closed to all.

Settings: AWS_ACCESS_KEY_ID, GATEWAY_PORT, S3_DATA_DIR; S3_HOST (loopback, but in a container).
"""

from __future__ import annotations

import asyncio
import hmac
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

Application = Callable[[dict[str, Any], Any, Any], Awaitable[None]]
HEALTH = "/_ministack/health"


def guarded(application: Application, key: str) -> Application:
    """An ASGI application that passes on only requests signed in the name of `key`."""

    async def guard(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http" and not _allowed(scope, key):
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b"access denied\n"})
            return
        await application(scope, receive, send)

    return guard


def _allowed(scope: dict[str, Any], key: str) -> bool:
    if scope["path"] == HEALTH:
        return scope["method"] == "GET"
    if scope["path"].startswith("/_"):
        return False
    headers = dict(scope["headers"])
    algorithm, _, rest = headers.get(b"authorization", b"").partition(b" Credential=")
    given = rest.partition(b"/")[0]
    return algorithm == b"AWS4-HMAC-SHA256" and hmac.compare_digest(given, key.encode())


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

    key = os.environ["AWS_ACCESS_KEY_ID"]
    asyncio.run(_serve(guarded(app, key), int(os.environ["GATEWAY_PORT"])))


if __name__ == "__main__":
    main()
