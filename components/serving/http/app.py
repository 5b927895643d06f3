"""The server: routes, limits, and the page to drop a photo on."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from components.core import pages, web
from components.core.images import MAX_MEGAPIXELS, PhotoError
from components.serving.http.engine import Answer, Engine, Picture
from components.serving.http.metrics import Metrics
from components.serving.http.models import Models
from components.serving.http.reading import BODY, photo_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

Read = TypeVar("Read")
_SECONDS = 60  # that a request's body may take
_PAGE, _REFERENCE = "serve.html", "api.html"
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "the photo's answer"},
    400: {"description": "the photo cannot be read, or has too many pixels"},
    408: {"description": "the body did not arrive in time"},
    413: {"description": "the body is too large"},
    415: {"description": "the type of the body is none of these"},
    422: {"description": "no photo in the request"},
    429: {"description": "too many requests at a time; try again after `Retry-After`"},
    503: {"description": "no model answers"},
}


@dataclass(frozen=True)
class Bounds:
    """What the server accepts."""

    queue: int = 64  # photos at a time
    max_mb: float = 32.0  # of a request's body
    max_megapixels: float = MAX_MEGAPIXELS
    refresh: float = 30.0  # seconds between looks for a new champion


def serve(models: Models, metrics: Metrics, bounds: Bounds, hosts: Sequence[str] = ()) -> ASGIApp:
    """The whole application.

    Args:
        models: the student that answers.
        metrics: what it counts.
        bounds: what it accepts.
        hosts: names that it is called by, beside `localhost` and addresses.
    """
    # It would log each damaged form, whose sender is told.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    app = create(models, metrics, bounds)
    return _Counted(web.protect(app, hosts, int(bounds.max_mb * 1e6)), metrics)


def create(models: Models, metrics: Metrics, bounds: Bounds) -> FastAPI:
    """The routes, without what guards them."""
    engine = Engine(models, metrics, bounds.max_megapixels)
    waiting = _Waiting(bounds.queue, metrics)

    @asynccontextmanager
    async def living(_app: FastAPI) -> AsyncIterator[None]:
        threading.Thread(
            target=models.keep_fresh, args=[bounds.refresh], name="refresh", daemon=True
        ).start()
        yield
        models.stop()
        engine.close()

    app = FastAPI(
        title="BoxPromptIML",
        description="Finds manipulated regions in photos.",
        version="1",
        docs_url=None,
        redoc_url=None,
        lifespan=living,
    )
    web.describe_errors(app)

    @app.exception_handler(PhotoError)
    def unread(_request: object, error: PhotoError) -> JSONResponse:
        return JSONResponse({"detail": error.reason}, 400)  # who asks knows which photo

    @app.post(
        "/predict", response_model=Answer, responses=_RESPONSES, openapi_extra={"requestBody": BODY}
    )
    async def predict(
        request: Request, include: Annotated[list[Picture], Query(default_factory=list)]
    ) -> Response:
        """Score a photo; `include` adds pictures to the answer."""
        with waiting.one() as admitted:
            if not admitted:
                await _in_time(_dropped(request))
                raise HTTPException(429, "too many requests at a time", {"Retry-After": "1"})
            data = await _in_time(photo_of(request))
            body = await _unless_gone(request, engine, data, include)
        return Response(body, media_type="application/json") if body else Response(None, web.GONE)

    @app.get("/health", responses={503: _RESPONSES[503]})
    def health() -> JSONResponse:
        """Whether a model answers, which one and since when."""
        return _health(models)

    @app.get("/metrics", response_class=Response)
    def exposed() -> Response:
        """For Prometheus."""
        return Response(metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> str:
        values = {"bounds": bounds, "model": models.current and models.current.origin}
        return pages.render(_PAGE, values)

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    def reference() -> str:
        return pages.render(_REFERENCE, {"api": app.openapi()})

    return app


def _health(models: Models) -> JSONResponse:
    model = models.current
    answers = model is not None and model.failure is None
    values: dict[str, Any] = {"status": "ok" if answers else "no model answers"}
    if model is not None:
        about = model.origin.row()
        values |= {"since": about.pop("made_at"), **about, "failure": model.failure}
    values |= {"checked": models.checked, "problem": models.problem}
    return JSONResponse(values, 200 if answers else 503)


async def _in_time(reading: Coroutine[Any, Any, Read]) -> Read:
    """Read a request's body, which may take a limited time."""
    try:
        async with asyncio.timeout(_SECONDS):
            return await reading
    except TimeoutError:
        headers = {"Connection": "close"}
        raise HTTPException(408, f"no photo within {_SECONDS} s", headers) from None


async def _dropped(request: Request) -> None:
    """Read a body and keep nothing, so that its client gets to read the answer."""
    async for _ in request.stream():
        pass


async def _unless_gone(
    request: Request, engine: Engine, data: bytes, pictures: list[Picture]
) -> bytes | None:
    """The answer; None, and no more work on it, once the client has gone away."""
    work = asyncio.ensure_future(engine.answer(data, pictures))
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        return work.result() if work.done() else None
    finally:
        work.cancel()
        gone.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await work


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Waiting:
    """Counts requests that wait for an answer."""

    def __init__(self, most: int, metrics: Metrics) -> None:
        self._most, self._now, self._metrics = most, 0, metrics

    @contextmanager
    def one(self) -> Iterator[bool]:
        """One more waits in this context, if there is room for it."""
        admitted = self._now < self._most
        self._add(admitted)
        try:
            yield admitted
        finally:
            self._add(-admitted)

    def _add(self, number: int) -> None:
        self._now += number
        self._metrics.waiting.set(self._now)


class _Counted:
    """Counts responses by status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.responses.labels(str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, counted)
