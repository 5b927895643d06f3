"""A photo's content credentials (C2PA): the signed manifest of who made it and how, if it has one.

The library of the Content Authenticity Initiative checks them, in the photo's own bytes: no
manifest, certificate status or trust list is fetched from anywhere. It is optional (the extra
`report`). No trust list is set up: whether a signature is valid and whether the signer is someone
known are two questions, and only the first is answered.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from typing import Any, NamedTuple

from components.core.errors import brief
from components.serving.metadata import text

PACKAGE, EXTRA = "c2pa-python", "report"
ABSENT, VALID, INVALID = "absent", "valid", "invalid"
UNCHECKED, UNREADABLE, UNSUPPORTED, ELSEWHERE = "unchecked", "unreadable", "unsupported", "remote"
_UNTRUSTED = "signingCredential.untrusted"
_SETTINGS = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_trust": True}}
_MOST = 30  # rows of a list


class Check(NamedTuple):
    """One outcome of the library's checks."""

    code: str  # of the C2PA specification
    explanation: str


class Action(NamedTuple):
    """What the manifest says was done."""

    name: str
    when: str
    program: str
    source: str  # kind of source, e.g. digitalCapture
    description: str


class Ingredient(NamedTuple):
    """Another file that the manifest says this one was made from."""

    title: str
    relationship: str
    problems: list[str]  # codes of its own manifest's failures
    manifest: bool  # whether it has one


class Credentials(NamedTuple):
    """What a photo carries; lists and texts are empty where nothing is said."""

    state: str
    reason: str = ""  # of a state that is neither absent, valid nor invalid
    generator: str = ""  # the program that wrote the claim, as it calls itself
    signer: str = ""  # as the certificate names it
    algorithm: str = ""
    serial: str = ""  # of the certificate
    time: str = ""  # of the signature, by a time-stamp authority
    title: str = ""
    manifests: int = 0
    failures: list[Check] = []  # noqa: RUF012 - a NamedTuple's, never changed
    passed: list[Check] = []  # noqa: RUF012
    actions: list[Action] = []  # noqa: RUF012
    ingredients: list[Ingredient] = []  # noqa: RUF012
    trusted: bool = False  # whether the signer is on a trust list


def library() -> str | None:
    """Name and version of the library that checks; None where it is not installed."""
    try:
        return f"{PACKAGE} {version(PACKAGE)}"
    except PackageNotFoundError:
        return None


def read(data: bytes) -> Credentials:
    """Check the content credentials in a photo's file."""
    try:
        import c2pa
    except ImportError:
        return Credentials(UNCHECKED, f"the package {PACKAGE} is not installed")
    try:
        # For each photo: a context is no use in a forked process.
        context = c2pa.Context(settings=c2pa.Settings.from_dict(_SETTINGS))
        reader = c2pa.Reader.try_create(None, BytesIO(data), None, context=context)
        if reader is None:
            return Credentials(ABSENT)
        with reader:
            return _described(json.loads(reader.json()))
    except c2pa.C2paError.NotSupported:
        return Credentials(UNSUPPORTED)
    except c2pa.C2paError as error:
        reason = brief(error)
        if reason.startswith("Remote: "):
            return Credentials(ELSEWHERE, text(reason.removeprefix("Remote: ")))
        return Credentials(UNREADABLE, text(reason))


def _described(store: Mapping[str, Any]) -> Credentials:
    """The active manifest of what the library read."""
    manifests = store.get("manifests") or {}
    active = manifests.get(store.get("active_manifest")) or {}
    signature = active.get("signature_info") or {}
    results = (store.get("validation_results") or {}).get("activeManifest") or {}
    state = store.get("validation_state")
    failures = [check for check in _checks(results.get("failure")) if check.code != _UNTRUSTED]
    names = dict.fromkeys(text(signature.get(key) or "") for key in ("common_name", "issuer"))
    return Credentials(
        VALID if state in ("Valid", "Trusted") else INVALID,
        generator=_generator(active),
        signer=", ".join(filter(None, names)),
        algorithm=text(signature.get("alg") or ""),
        serial=text(signature.get("cert_serial_number") or ""),
        time=text(signature.get("time") or ""),
        title=text(active.get("title") or ""),
        manifests=len(manifests),
        failures=failures + _of_ingredients(store),
        passed=_checks(results.get("success")),
        actions=list(_actions(active))[:_MOST],
        ingredients=[_ingredient(one) for one in (active.get("ingredients") or [])[:_MOST]],
        trusted=state == "Trusted",
    )


def _checks(rows: Any) -> list[Check]:
    found = (
        Check(text(row.get("code") or ""), text(row.get("explanation") or ""))
        for row in (rows or [])
    )
    return list(dict.fromkeys(found))[:_MOST]


def _of_ingredients(store: Mapping[str, Any]) -> list[Check]:
    """What failed in a manifest below the active one, and is not a signer who is not known."""
    deltas = (store.get("validation_results") or {}).get("ingredientDeltas") or []
    rows = [_checks((delta.get("validationDeltas") or {}).get("failure")) for delta in deltas]
    return [check for row in rows for check in row if check.code != _UNTRUSTED][:_MOST]


def _generator(manifest: Mapping[str, Any]) -> str:
    infos = manifest.get("claim_generator_info") or []
    names = [f"{info.get('name') or ''} {info.get('version') or ''}".strip() for info in infos]
    return text(", ".join(filter(None, names)) or manifest.get("claim_generator") or "")


def _actions(manifest: Mapping[str, Any]) -> Iterator[Action]:
    for assertion in manifest.get("assertions") or []:
        if not str(assertion.get("label")).startswith("c2pa.actions"):
            continue
        for action in (assertion.get("data") or {}).get("actions") or []:
            agent = action.get("softwareAgent") or ""
            program = agent.get("name") or "" if isinstance(agent, dict) else agent
            source = str(action.get("digitalSourceType") or "").rpartition("/")[2]
            rest = (action.get("when"), program, source, action.get("description"))
            yield Action(text(action.get("action") or ""), *(text(one or "") for one in rest))


def _ingredient(one: Mapping[str, Any]) -> Ingredient:
    results = (one.get("validation_results") or {}).get("activeManifest") or {}
    rows = results.get("failure") or one.get("validation_status") or []
    problems = [check.code for check in _checks(rows) if check.code != _UNTRUSTED]
    return Ingredient(
        text(one.get("title") or "no title"),
        text(one.get("relationship") or ""),
        problems,
        bool(one.get("active_manifest")),
    )
