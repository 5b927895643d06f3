"""Checks of the code and the pipeline: commit, dvc.lock, stages."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from components.core.errors import CheckError
from components.core.files import sha256_bytes, sha256_json
from components.lineage import record as recording
from components.lineage.evidence import Evidence, parsed
from components.lineage.verdict import Finding, Pair, broken, compared, missing, verified
from components.registry.package import leaves
from components.workspace import history
from components.workspace.remote import folder_md5
from components.workspace.repository import tag_name

_RESTS = "depends on the lineage record, which is missing or broken"


def commit(evidence: Evidence) -> list[Finding]:
    """That the recorded commit is in the repository, intact, and part of its history."""
    link, record = "commit", evidence.record
    if record is None:
        return [missing(link, _RESTS)]
    name, root = record["git"]["commit"], evidence.repository
    where = f"commit {name}"
    if root is None:
        return [missing(link, "there is no git repository here", where)]
    found = [broken(link, line, "git repository") for line in history.damage(root)]
    if not history.has_commit(root, name):
        return [*found, missing(link, "the commit is not in the git repository", where)]
    found += _tagged(evidence, root, name)
    refs = history.refs_to(root, name)
    if not refs:
        found.append(broken(link, "no branch or tag leads to it: history was rewritten", where))
    if not evidence.clean:
        dirty = record["git"]["dirty"]
        what = f"the version was made with {len(dirty)} uncommitted changes, {dirty[0]} among them"
        found.append(missing(link, what, where))
    return found or [verified(link, f"intact, on {refs[0].split('/', 2)[2]}", where)]


def _tagged(evidence: Evidence, root: Path, name: str) -> Iterator[Finding]:
    """What is wrong with the version's tag, where there is one.

    It may stand on a later commit: the one that committed dvc.lock, or the next run's after a kill.
    """
    link, label = "commit", tag_name(evidence.model, evidence.version)
    where, pinned = f"git tag {label}", history.tagged(root, label)
    if pinned in (None, name):
        return
    if not history.descends(root, str(pinned), name):
        yield broken(link, "points at another commit, not at a later one", where, name, pinned)
        return
    try:
        held = history.tree(root, str(pinned))
    except CheckError as error:
        yield missing(link, f"its commit cannot be read ({error.what})", where)
        return
    record = evidence.record or {}
    lock, found = record["dvc_lock"]["sha256"], sha256_bytes(held.get("dvc.lock", b""))
    if found != lock:
        yield broken(link, "points at a later commit with another dvc.lock", where, lock, found)
    for key, said in record["datasets"].items():
        file = f"data/{key}.dvc"
        if said["dvc"] and parsed(held.get(file, b"")) != said["dvc"]:
            yield broken(link, f"points at a later commit with another {file}", where)


def dvc_lock(evidence: Evidence) -> list[Finding]:
    """The text of dvc.lock against its hash and the commit's copy."""
    link, record = "dvc.lock", evidence.record
    if record is None:
        return [missing(link, _RESTS)]
    lock = record["dvc_lock"]
    found = sha256_bytes(lock["text"].encode())
    if found != lock["sha256"]:
        return [broken(link, "text and hash differ", "record", lock["sha256"], found)]
    if not lock.get("committed"):
        return [verified(link, "the record's own text; its commit does not contain it", "record")]
    where = f"commit {record['git']['commit'][:12]}"
    if evidence.tree is None:
        return [missing(link, "the commit that contains it cannot be read", where)]
    held = evidence.tree.get("dvc.lock")
    return compared(
        link,
        "the record's text matches the commit",
        where,
        [("dvc.lock", lock["sha256"], None if held is None else sha256_bytes(held))],
    )


def stages(evidence: Evidence) -> list[Finding]:
    """Stages, parameters and code hashes: record, dvc.lock, commit and MLflow agree."""
    link = "stages"
    if evidence.record is None:
        return [missing(link, _RESTS)]
    locked = (parsed(evidence.record["dvc_lock"]["text"].encode()) or {}).get("stages", {})
    pairs: list[Pair] = []
    for stage in evidence.record["stages"]:
        entry = locked.get(stage["name"])
        pairs.append((stage["name"], stage, entry and recording.stage(stage["name"], entry)))
        pairs.append(
            (f"{stage['name']} params", stage["params_sha256"], sha256_json(stage["params"]))
        )
    return [
        *compared(link, "the record's stages match dvc.lock", "dvc.lock", pairs),
        *_flow(evidence),
        *_logged(evidence),
        *_against_commit(evidence),
    ]


def _flow(evidence: Evidence) -> list[Finding]:
    """Every stage read exactly what an earlier one wrote."""
    made: dict[str, tuple[str, str]] = {}
    pairs: list[Pair] = []
    for stage in (evidence.record or {})["stages"]:
        for row in stage["deps"]:
            if row["path"] in made:
                pairs.append((f"{stage['name']} read {row['path']}", made[row["path"]], _hash(row)))
        made |= {row["path"]: _hash(row) for row in stage["outs"]}
    return compared("stages", "each stage read what the one before it wrote", "record", pairs)


def _hash(row: Mapping[str, Any]) -> tuple[str, str]:
    kind = next(name for name in recording.HASHES if name in row)
    return kind, str(row[kind])


def _logged(evidence: Evidence) -> list[Finding]:
    """MLflow's parameters against those of the stages."""
    if evidence.run is None:
        return []
    told: dict[str, str] = {}
    for stage in (evidence.record or {})["stages"]:
        told |= dict(leaves(stage["params"].get("params.yaml", {})))
    pairs = [
        (name, text[:6000], evidence.run.params.get(name)) for name, text in sorted(told.items())
    ]
    return compared("stages", "MLflow's parameters match the stages", "MLflow parameter", pairs)


def _against_commit(evidence: Evidence) -> Iterator[Finding]:
    """Commands, parameters and code of every stage against the commit's own files."""
    tree = evidence.tree
    if tree is None:
        yield missing("stages", "the commit's code cannot be read", "git repository")
        return
    if not evidence.clean:
        return  # said under `commit`; these files need not be the ones that ran
    written = (parsed(tree.get("dvc.yaml", b"")) or {}).get("stages", {})
    values = parsed(tree.get("params.yaml", b"")) or {}
    pairs: list[Pair] = []
    for stage in (evidence.record or {})["stages"]:
        base, _, item = stage["name"].partition("@")
        block = written.get(base, {})
        command = str(block.get("do", block).get("cmd")).replace("${item}", item)
        pairs.append((f"dvc.yaml {stage['name']}", stage["command"], command))
        for key, value in stage["params"].get("params.yaml", {}).items():
            pairs.append((f"params.yaml {key}", value, _at(values, key)))
        for row in stage["deps"]:
            if not row["path"].startswith("data/") and row["path"] not in evidence.outs():
                pairs.append((row["path"], row.get("md5"), _code_hash(tree, row["path"])))
    where = f"commit {(evidence.record or {})['git']['commit'][:12]}"
    yield from compared("stages", "commands, parameters and code match the commit", where, pairs)


def _at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def _code_hash(tree: Mapping[str, bytes], path: str) -> str | None:
    """A path's MD5 as DVC computes it, from the commit's files."""
    if path in tree:
        return hashlib.md5(tree[path], usedforsecurity=False).hexdigest()
    inside = {p[len(path) + 1 :]: data for p, data in tree.items() if p.startswith(f"{path}/")}
    return folder_md5(inside) if inside else None
