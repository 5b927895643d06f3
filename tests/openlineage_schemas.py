"""Whether events keep to the OpenLineage standard, as its Python client states it.

No package carries the official JSON schemas. The client's classes are generated from them and know
the address of each, so an event is held against those: required fields, no others, their types.
"""

from __future__ import annotations

import importlib
import pkgutil
import types
import typing
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import urlparse

import attr
from openlineage.client import generated
from openlineage.client.generated import base

_OWN = {"_producer", "_schemaURL", "_deleted"}
_HOLDERS = {
    "run": {"facets": base.RunFacet},
    "job": {"facets": base.JobFacet},
    "inputs": {"facets": base.DatasetFacet, "inputFacets": base.InputDatasetFacet},
    "outputs": {"facets": base.DatasetFacet, "outputFacets": base.OutputDatasetFacet},
}


def _classes() -> dict[str, type]:
    """Every facet's class by the address of its schema."""
    found = {}
    for module in pkgutil.iter_modules(generated.__path__):
        for value in vars(importlib.import_module(f"{generated.__name__}.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, base.BaseFacet):
                found[value._get_schema()] = value
    return found


FACETS = _classes()


def problems(event: dict[str, Any]) -> list[str]:
    """What is wrong with an event as it was sent; empty for a valid one."""
    return list(_event(event))


def _event(event: dict[str, Any]) -> Iterator[str]:
    try:
        if datetime.fromisoformat(event["eventTime"]).tzinfo is None:
            yield "eventTime has no time zone"
        uuid.UUID(event["run"]["runId"])
        if event["schemaURL"] != base.RunEvent._get_schema():
            yield f"schemaURL {event['schemaURL']}"
        if not urlparse(event["producer"]).scheme:
            yield f"producer {event['producer']} is no URI"
        base.EventType(event["eventType"])
        for name, kinds in _HOLDERS.items():
            found = event[name]
            for holder in found if isinstance(found, list) else [found]:
                if name != "run":
                    yield from _fits(f"{name} name", holder["name"], str)
                    yield from _fits(f"{name} namespace", holder["namespace"], str)
                for place, kind in kinds.items():
                    for key, facet in holder.get(place, {}).items():
                        yield from _facet(f"{name} {key}", facet, kind)
    except (KeyError, ValueError, TypeError) as error:
        yield f"{type(error).__name__}: {error}"


def _facet(where: str, facet: dict[str, Any], kind: type) -> Iterator[str]:
    cls = FACETS.get(facet["_schemaURL"])
    if cls is None or not issubclass(cls, kind):
        yield f"{where}: {facet['_schemaURL']} is no {kind.__name__}"
        return
    if not urlparse(facet["_producer"]).scheme:
        yield f"{where}: its producer is no URI"
    yield from _object(where, {k: v for k, v in facet.items() if k not in _OWN}, cls)


def _object(where: str, value: dict[str, Any], cls: type) -> Iterator[str]:
    fields = {f.name: f for f in attr.fields(cls) if f.name not in _OWN}
    hints = typing.get_type_hints(cls)
    yield from (f"{where}: {name} is unknown" for name in value.keys() - fields.keys())
    for name, field in fields.items():
        if name in value:
            yield from _fits(f"{where}.{name}", value[name], hints[name])
        elif field.default is attr.NOTHING:
            yield f"{where}: {name} is missing"


def _fits(where: str, value: Any, hint: Any) -> Iterator[str]:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if not any(not list(_fits(where, value, one)) for one in inner):
            yield f"{where}: {value!r} is no {hint}"
    elif attr.has(hint) and isinstance(value, dict):
        yield from _object(where, value, hint)
    elif origin is list and isinstance(value, list):
        for item in value:
            yield from _fits(where, item, inner[0])
    elif origin is dict and isinstance(value, dict):
        for item in value.values():
            yield from _fits(where, item, inner[1])
    elif hint is float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            yield f"{where}: {value!r} is no number"
    elif hint is not Any and not isinstance(value, origin or hint):
        yield f"{where}: {value!r} is no {hint}"
