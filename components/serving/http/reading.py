"""A photo's bytes out of a request: a form's file, JSON with base64, or the body itself."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

FIELD = "photo"
_FORM, _JSON = "multipart/form-data", "application/json"
_RAW = "application/octet-stream"
_FIELDS = 8  # of a form, at most


class Photo(BaseModel):
    """A request in JSON."""

    photo: str  # a file's bytes in base64


# For OpenAPI: what `photo_of` reads.
BODY: dict[str, Any] = {
    "required": True,
    "content": {
        _FORM: {
            "schema": {
                "type": "object",
                "required": [FIELD],
                "properties": {FIELD: {"type": "string", "format": "binary"}},
            }
        },
        _JSON: {
            "schema": {
                "type": "object",
                "required": [FIELD],
                "properties": {FIELD: {"type": "string", "contentEncoding": "base64"}},
            }
        },
        _RAW: {"schema": {"type": "string", "format": "binary"}},
        "image/*": {"schema": {"type": "string", "format": "binary"}},
    },
}


async def photo_of(request: Request) -> bytes:
    """The photo's bytes; raises HTTPException for a request that holds none."""
    kind = request.headers.get("content-type", _RAW).partition(";")[0].strip().lower()
    if kind == _FORM:
        return await _from_form(request)
    if kind == _JSON:
        return await run_in_threadpool(_from_json, await request.body())
    if kind == _RAW or kind.startswith("image/"):
        return await request.body()
    text = f"send the photo as {_FORM}, as {_JSON} or as it is (image/* or {_RAW})"
    raise HTTPException(415, text)


class _InMemory(MultiPartParser):
    """A parser of forms that writes no file: the body's size is limited before."""

    spool_max_size = 2**62


async def _from_form(request: Request) -> bytes:
    parser = _InMemory(request.headers, request.stream(), max_files=1, max_fields=_FIELDS)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, f"not a form ({_line(error.message)})") from None
    except (KeyError, ValueError):  # no boundary, or headers of a part that are no text
        raise HTTPException(400, "not a form (damaged headers)") from None
    file = form.get(FIELD)
    if not isinstance(file, UploadFile):
        raise HTTPException(422, f"the form has no file in the field {FIELD!r}")
    return await file.read()


def _from_json(body: bytes) -> bytes:
    try:
        text = Photo.model_validate_json(body).photo
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(["body", *map(str, first["loc"])])
        raise HTTPException(422, _line(f"{place}: {first['msg']}")) from None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise HTTPException(422, f"body.{FIELD}: not base64 ({error})") from None


def _line(text: str) -> str:
    return " ".join(text.split())[:200]
