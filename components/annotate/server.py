"""HTTP of the annotation page: who may ask, and what the answers look like.

The page itself holds nothing and is given to anyone on this machine. All else needs the token that
is in the printed address: after its `#`, which browsers keep to themselves, so that it is in no
request, log or Referer. The page sends it as a header, which no page of another origin can do;
requests that name another origin are refused as well.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from components.annotate.session import Session
from components.core import web

TOKEN = "X-Token"  # noqa: S105 - a header's name
_MAX_BODY = 256 * 1024
_PAGE = Path(__file__).with_name("page")
_FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/canvas.js": ("canvas.js", "text/javascript"),
    "/page.js": ("page.js", "text/javascript"),
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

Name = Annotated[
    str, Field(min_length=1, max_length=80, pattern=r"^[^\s\x00-\x1f]([^\x00-\x1f]*)$")
]
Box = Annotated[list[float], Field(min_length=4, max_length=4)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    annotator: Name


class Open(_Body):
    """Ask for a photo."""

    position: int | None = None


class Ask(_Body):
    """Ask for the mask of a box."""

    photo: int
    box: Box


class Decide(_Body):
    """Say what a photo is."""

    photo: int
    mark: str
    boxes: list[Box]
    seconds: float = Field(ge=0, le=86_400)


def make(session: Session, token: str, origin: str, about: dict[str, Any]) -> ASGIApp:
    """The app at an origin (`http://127.0.0.1:PORT`); `about` is what the page tells people."""

    def allowed(request: Request) -> None:
        if request.headers.get("origin", origin) != origin:
            raise HTTPException(403, "another site's page may not ask this")
        if not secrets.compare_digest(request.headers.get(TOKEN, "").encode(), token.encode()):
            raise HTTPException(401, "open the address that `iml annotate` has printed")

    app = FastAPI(openapi_url=None)
    web.describe_errors(app)
    api = APIRouter(prefix="/api", dependencies=[Depends(allowed)])

    @api.get("/about")
    def tell() -> JSONResponse:
        return JSONResponse(about)

    @api.post("/open")
    def open_(asked: Open) -> JSONResponse:
        task = session.open(asked.annotator, asked.position)
        return JSONResponse({"task": task, "report": session.report()})

    @api.get("/photo/{number}")
    def photo(number: int) -> Response:
        return Response(session.photo(number).jpeg, media_type="image/jpeg")

    @api.post("/mask")
    def mask(asked: Ask) -> Response:
        shown = session.mask(asked.annotator, asked.photo, asked.box)
        facts = {"place": shown.place, "confidence": shown.confidence, "fallback": shown.fallback}
        return Response(shown.png, media_type="image/png", headers={"X-Mask": json.dumps(facts)})

    @api.post("/decide")
    def decide(said: Decide) -> JSONResponse:
        session.decide(said.annotator, said.photo, said.mark, said.boxes, said.seconds)
        return JSONResponse(session.report())

    @api.get("/report")
    def report() -> JSONResponse:
        return JSONResponse(session.report())

    def page(request: Request) -> Response:
        file, kind = _FILES[request.url.path]
        text = (_PAGE / file).read_text(encoding="utf-8")
        return Response(text, media_type=kind, headers={"Content-Security-Policy": _POLICY})

    for path in _FILES:
        app.get(path)(page)
    app.include_router(api)
    return web.protect(app, [web.LOOPBACK], _MAX_BODY)
