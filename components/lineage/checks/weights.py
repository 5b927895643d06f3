"""Checks of the weights a version started from: the teacher's and the backbone's."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.core.errors import CheckError, InputError
from components.core.files import sha256_bytes, sha256_file
from components.core.params import nested
from components.lineage.checks.data import refused
from components.lineage.evidence import Evidence, parsed
from components.lineage.verdict import Finding, Pair, broken, compared, missing, verified
from components.pseudo_label.registry import specs

SUMMARY, LABELS = "runs/pseudo_label/summary.json", "runs/pseudo_label/labels.parquet"
STUDENT = "runs/distill/summary.json"
_RESTS = "depends on the lineage record, which is missing or broken"


def teacher(evidence: Evidence) -> list[Finding]:
    """The teacher's weights: record, stage, every label, and the weights themselves."""
    link = "teacher"
    if evidence.record is None:
        return [missing(link, _RESTS)]
    said, told = evidence.record["teacher"], evidence.stage_params("pseudo_label")["pseudo_label"]
    pairs: list[Pair] = [("params.yaml", said["name"], told["teacher"])]
    try:
        stated = parsed(evidence.read(SUMMARY, evidence.outs()[SUMMARY])) or {}
        labels = _teachers(evidence)
    except CheckError as error:
        return [refused(link, error.where, error)]
    pairs.append((SUMMARY, said["sha256"], stated.get("teacher_sha256")))
    pairs += [(LABELS, said["sha256"], digest) for digest in sorted(labels)]
    what = f"{said['name']} made every pseudo-mask, as recorded"
    return [*compared(link, what, "", pairs), *_teacher_weights(evidence, said, told)]


def _teachers(evidence: Evidence) -> set[str]:
    data = evidence.read(LABELS, evidence.outs()[LABELS])
    try:
        column = pq.read_table(io.BytesIO(data), columns=["teacher_sha256"])
    except (pa.ArrowInvalid, KeyError) as error:
        raise CheckError(f"not a table of labels ({error})", where=LABELS) from None
    return {str(value) for value in column["teacher_sha256"].to_pylist()}


def _teacher_weights(
    evidence: Evidence, said: dict[str, Any], told: dict[str, Any]
) -> list[Finding]:
    """The weights: given, of the commit, or published elsewhere; with any teacher of any time."""
    link, name, digest = "teacher", said["name"], said["sha256"]
    spec = specs().get(name)
    if spec and spec.weights is None:
        return [verified(link, "it has no weights; the hash names its algorithm", name)]
    if told.get("checkpoint"):
        return [_file(link, Path(told["checkpoint"]), digest)]
    if spec is None or spec.weights is None or not spec.weights.address:
        return _committed(evidence, name, digest)
    if digest != spec.weights.sha256:
        return [broken(link, "is not the published one", name, spec.weights.sha256, digest)]
    if spec.weights.on_disk():
        return [_file(link, spec.weights.path, digest)]
    return [verified(link, "SHA-256 is that of the published checkpoint", name)]


def _committed(evidence: Evidence, name: str, digest: str) -> list[Finding]:
    """Weights that the commit contains, in whichever package, or whose hash its code pins."""
    link, asset, tree = "teacher", f"/assets/{name}.safetensors", evidence.tree or {}
    if place := next((path for path in tree if path.endswith(asset)), None):
        pair = (place, digest, sha256_bytes(tree[place]))
        return compared(link, "the commit contains these weights", "", [pair])
    code = (path for path in tree if path.startswith("components/") and path.endswith(".py"))
    if name not in specs() and any(digest.encode() in tree[path] for path in code):
        return [verified(link, "the commit's code pins this SHA-256", name)]
    return [missing(link, "the commit's weights cannot be read", f"*{asset}")]


def _file(link: str, path: Path, digest: str) -> Finding:
    """Weights on disk against their recorded hash."""
    if not path.is_file():
        return missing(link, "these weights are not on this machine", str(path))
    found = sha256_file(path)
    if found == digest:
        return verified(link, f"SHA-256 {digest} of the weights on disk", path.name)
    return broken(link, "the weights on disk differ", str(path), digest, found)


def backbone(evidence: Evidence) -> list[Finding]:
    """The backbone's first weights: record, stage and the weights themselves."""
    link = "backbone"
    if evidence.record is None:
        return [missing(link, _RESTS)]
    said = evidence.record.get("backbone")
    if said is None:
        return [missing(link, "records of schema 1 do not name the backbone's weights")]
    told = nested(evidence.stage_params("distill")["distill"])["student"]
    try:
        stated = (parsed(evidence.read(STUDENT, evidence.outs()[STUDENT])) or {}).get("backbone")
    except CheckError as error:
        return [refused(link, STUDENT, error)]
    pairs: list[Pair] = [
        ("params.yaml backbone", said["name"], told["backbone"]),
        ("params.yaml weights", said["weights"], told["weights"]),
        (STUDENT, said, stated),
    ]
    what = f"{said['name']} with weights {said['weights']}, as recorded"
    return [*compared(link, what, "", pairs), _backbone_weights(said)]


def _backbone_weights(said: dict[str, Any]) -> Finding:
    # timm comes with it, and takes seconds.
    from components.student import backbones

    link, name, weights = "backbone", said["name"], said["weights"]
    if weights == "none":
        return verified(link, "training began from random weights", name)
    if weights not in ("package", "hub"):
        return _file(link, Path(weights), said["sha256"])
    try:
        found = backbones.weights_sha256(name, weights)
    except InputError as error:
        return missing(link, error.what, error.where)
    if found == said["sha256"]:
        return verified(link, f"SHA-256 {found} of the weights on disk", f"{name} ({weights})")
    return broken(link, "the weights on disk differ", f"{name} ({weights})", said["sha256"], found)
