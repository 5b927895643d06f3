"""Checks of the weights a version started from: the teacher's and the backbone's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.core.errors import CheckError, InputError
from components.core.files import sha256_bytes, sha256_file
from components.lineage.checks.data import refused
from components.lineage.evidence import Evidence, parsed
from components.lineage.verdict import Finding, Pair, broken, compared, missing, verified
from components.pseudo_label.hub import Folder
from components.pseudo_label.registry import find, specs

_HASH, _LICENCE = "teacher_sha256", "teacher_licence"  # in the summary, the first in the labels too


def teacher(evidence: Evidence) -> Iterator[Finding]:
    """The teacher's weights: record, stage, every label, and the weights themselves."""
    recorded, names = evidence.record["teacher"], evidence.names
    pairs: list[Pair] = [("params.yaml", recorded["name"], names.parameter("teacher"))]
    try:
        summary = parsed(evidence.output("teacher")) or {}
        labels = set(evidence.table("labels", [_HASH])[_HASH].astype(str))
    except CheckError as error:
        yield refused(error)
        return
    pairs.append((names.path("teacher"), recorded["sha256"], summary.get(_HASH)))
    pairs.append((names.path("teacher"), recorded.get("licence"), summary.get(_LICENCE)))
    pairs += [(names.path("labels"), recorded["sha256"], digest) for digest in sorted(labels)]
    yield from compared(f"{recorded['name']} made every pseudo-mask, as recorded", "", pairs)
    yield _teacher_weights(evidence, recorded)


def _teacher_weights(evidence: Evidence, recorded: dict[str, Any]) -> Finding:
    """The weights: a file, of the commit, or published elsewhere; with any teacher of any time."""
    name, digest = recorded["name"], recorded["sha256"]
    try:
        spec = find(name)
    except InputError:  # a folder that is gone
        return missing("these weights are not on this machine", name)
    weights = spec.weights if spec else None
    if spec and weights is None:
        return verified("it has no weights; the hash names its algorithm", name)
    if isinstance(weights, Folder):
        return _folder(weights, name, digest)
    if checkpoint := evidence.names.parameter("checkpoint"):
        return _file(Path(checkpoint), digest)
    if weights is None or not weights.address:
        return _committed(evidence, name, digest)
    if digest != weights.sha256:
        return broken("is not the published one", name, weights.sha256, digest)
    if weights.on_disk():
        return _file(weights.path, digest)
    return verified("SHA-256 is that of the published checkpoint", name)


def _committed(evidence: Evidence, name: str, digest: str) -> Finding:
    """Weights that the commit contains, in whichever package, or whose hash its code pins."""
    asset, tree = f"/assets/{name}.safetensors", evidence.tree or {}
    if place := next((path for path in tree if path.endswith(asset)), None):
        pair = (place, digest, sha256_bytes(tree[place]))
        return compared("the commit contains these weights", "", [pair])[0]
    code = (path for path in tree if path.startswith("components/") and path.endswith(".py"))
    if name not in specs() and any(digest.encode() in tree[path] for path in code):
        return verified("the commit's code pins this SHA-256", name)
    return missing("the commit's weights cannot be read", f"*{asset}")


def _folder(weights: Folder, name: str, digest: str) -> Finding:
    """A model in Hugging Face format, which no code pins: a hub's name has its commit."""
    try:
        found = weights.digest()
    except InputError as error:
        return broken(error.what, error.where or name, digest)
    if found is None:
        return missing("these weights are not on this machine", name)
    return _on_disk(found, digest, name, str(weights.path))


def _file(path: Path, digest: str) -> Finding:
    if not path.is_file():
        return missing("these weights are not on this machine", str(path))
    return _on_disk(sha256_file(path), digest, path.name, str(path))


def _on_disk(found: str | None, digest: str, name: str, where: str) -> Finding:
    """Weights on disk against their recorded hash."""
    if found == digest:
        return verified(f"SHA-256 {digest} of the weights on disk", name)
    return broken("the weights on disk differ", where, digest, found)


def backbone(evidence: Evidence) -> Iterator[Finding]:
    """The backbone's first weights: record, stage and the weights themselves."""
    recorded = evidence.record.get("backbone")
    if recorded is None:
        yield missing("records of schema 1 do not name the backbone's weights")
        return
    names = evidence.names
    try:
        summary = parsed(evidence.output("student")) or {}
    except CheckError as error:
        yield refused(error)
        return
    pairs: list[Pair] = [
        ("params.yaml backbone", recorded["name"], names.parameter("backbone")),
        ("params.yaml weights", recorded["weights"], names.parameter("weights")),
        (names.path("student"), recorded, summary.get("backbone")),
    ]
    what = f"{recorded['name']} with weights {recorded['weights']}, as recorded"
    yield from compared(what, "", pairs)
    yield _backbone_weights(recorded)


def _backbone_weights(recorded: dict[str, Any]) -> Finding:
    # timm comes with it, and takes seconds.
    from components.student import backbones

    name, weights, digest = recorded["name"], recorded["weights"], recorded["sha256"]
    if weights == "none":
        return verified("training began from random weights", name)
    if weights not in ("package", "hub"):
        return _file(Path(weights), digest)
    try:
        found = backbones.weights_sha256(name, weights)
    except InputError as error:
        return missing(error.what, error.where)
    place = f"{name} ({weights})"
    return _on_disk(found, digest, place, place)
