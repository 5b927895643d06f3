"""HTTP for one person's browser or one machine's programs: limits, headers and errors of every app.

Uvicorn and Starlette serve, since FastAPI is built on them and Prefect and MLflow bring both.
`describe_errors` and `protect` prepare an app; `listen` and `run` serve it. An error is answered as
JSON, `{"detail": "one line"}`.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from components.core.errors import ImlError, InputError, UnavailableError

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = "127.0.0.1"
GONE = 499  # the status, as nginx has it, of a request whose client went away
_STOP = 5  # seconds that answers under way may take when the server stops
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one (`socket.getsockname()` has it).

    Raises:
        InputError: no such address here, or the port is taken or not allowed.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        hint = "choose another --port, or 0 for a free one"
        raise InputError(f"cannot listen ({reason})", where=f"{host}:{port}", hint=hint) from None


def run(
    app: ASGIApp,
    listener: socket.socket,
    ready: Callable[[], None] = lambda: None,
    stop: int = _STOP,
) -> None:
    """Serve an app until Ctrl-C or SIGTERM; answers under way are finished first.

    Args:
        app: the app.
        listener: from `listen`.
        ready: called once it accepts requests: the app's own start-up is over.
        stop: seconds that answers under way may take in the end.
    """
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                ready()

    config = uvicorn.Config(
        app,
        http="h11",  # refuses headers that do not end, which other parsers collect
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=stop,
    )
    with suppress(KeyboardInterrupt):  # uvicorn raises it again when all is over
        Server(config).run(sockets=[listener])


def describe_errors(app: FastAPI) -> None:
    """Answer what goes wrong in one line: 400 bad input, 422 wrong request, 503 a service away."""
    from fastapi.exceptions import RequestValidationError
    from starlette.requests import ClientDisconnect
    from starlette.responses import JSONResponse, Response

    @app.exception_handler(ImlError)
    def failed(_request: object, error: ImlError) -> JSONResponse:
        status = 503 if isinstance(error, UnavailableError) else 400
        return JSONResponse({"detail": error.line()}, status)

    @app.exception_handler(RequestValidationError)
    def wrong(_request: object, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return JSONResponse({"detail": f"{place}: {first['msg']}"}, 422)

    @app.exception_handler(ClientDisconnect)
    def gone(_request: object, _error: ClientDisconnect) -> Response:
        return Response(status_code=GONE)

    @app.exception_handler(Exception)
    def bug(_request: object, _error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "internal error"}, 500)  # its traceback is logged


def protect(app: ASGIApp, hosts: Sequence[str], max_body: int) -> ASGIApp:
    """An app that answers only requests for these hosts, with bodies of at most `max_body` bytes.

    A page of another site that reaches the server through a name of its own is refused, and none
    may embed its answers. An address is no name: it is answered as `localhost` is. Bodies are
    counted as they arrive, whatever their header says.
    """
    return _Headers(_Hosts(_Limited(app, max_body), hosts))


class _Headers:
    """Adds headers to every answer; one that the app has set stays."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.datastructures import MutableHeaders

        async def complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, complete)


class _Hosts:
    """Answers 400 to a request for a name that is not this server's."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self._app, self._names = app, {"localhost", *(name.lower() for name in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.datastructures import Headers
        from starlette.responses import JSONResponse

        if scope["type"] in ("http", "websocket"):
            given = Headers(scope=scope).get("host", "")
            if not self._known(given):
                refusal = JSONResponse({"detail": "the header Host names another server"}, 400)
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _known(self, host: str) -> bool:
        name = re.sub(r":\d*$", "", host).lower()
        if name in self._names:
            return True
        with suppress(ValueError):
            ipaddress.ip_address(name.strip("[]"))
            return True
        return False


class _Limited:
    """Answers 413 to a body that is too large, without holding more of it."""

    def __init__(self, app: ASGIApp, max_body: int) -> None:
        self._app, self._max = app, max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        from starlette.datastructures import Headers
        from starlette.exceptions import HTTPException
        from starlette.responses import JSONResponse

        text = f"the request has more than {self._max / 1e6:g} MB"
        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdecimal() or int(length) > self._max:
            refusal = JSONResponse({"detail": text}, 413, {"Connection": "close"})
            await refusal(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max:
                # The app turns it into an answer, like those that its own code raises.
                raise HTTPException(413, text, {"Connection": "close"})
            return message

        await self._app(scope, counted, send)
