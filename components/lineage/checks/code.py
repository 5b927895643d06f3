"""Checks of the code and the pipeline: commit, dvc.lock, stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from components.core.errors import CheckError
from components.core.files import sha256_bytes, sha256_json
from components.lineage import record as recording
from components.lineage.evidence import Evidence, below, parsed
from components.lineage.verdict import Finding, Pair, broken, compared, missing, verified
from components.registry.package import leaves
from components.workspace import history
from components.workspace.remote import folder_md5, folder_of, md5_of
from components.workspace.repository import tag_name

_SHALLOW = f"this clone is shallow, so its history is unknown: run `{history.UNSHALLOW}`"


def commit(evidence: Evidence) -> Iterator[Finding]:
    """That the recorded commit is in the repository, intact, and part of its history."""
    git, root = evidence.record["git"], evidence.repository
    where = f"commit {git['commit']}"
    if root is None:
        yield missing("there is no git repository here", where)
        return
    found = [broken(line, "git repository") for line in history.damage(root)]
    if not history.has_commit(root, git["commit"]):
        yield from [*found, missing(history.absent(root), where)]
        return
    found += _tagged(evidence, root, git["commit"])
    refs = history.refs_to(root, git["commit"])
    if not refs and history.shallow(root):
        found.append(missing(_SHALLOW, where))
    elif not refs:
        found.append(broken("no branch or tag leads to it: history was rewritten", where))
    if not evidence.clean:
        dirty = git["dirty"]
        what = f"the version was made with {len(dirty)} uncommitted changes, {dirty[0]} among them"
        found.append(missing(what, where))
    yield from found or [verified(f"intact, on {refs[0].split('/', 2)[2]}", where)]


def _tagged(evidence: Evidence, root: Path, name: str) -> Iterator[Finding]:
    """What is wrong with the version's tag, where there is one.

    It may point at a later commit: the one of dvc.lock, or the next run's after a kill.
    """
    label = tag_name(evidence.model, evidence.version)
    where, pinned = f"git tag {label}", history.tagged(root, label)
    if pinned in (None, name):
        return
    if not history.descends(root, str(pinned), name):
        if history.shallow(root):
            yield missing(_SHALLOW, where)
            return
        yield broken("points at another commit, not at a later one", where, name, pinned)
        return
    try:
        tree = history.tree(root, str(pinned))
    except CheckError as error:
        yield missing(f"its commit cannot be read ({error.what})", where)
        return
    lock = evidence.record["dvc_lock"]["sha256"]
    found = sha256_bytes(tree.get("dvc.lock", b""))
    if found != lock:
        yield broken("points at a later commit with another dvc.lock", where, lock, found)
    for key, described in evidence.record["datasets"].items():
        file = f"{evidence.names.path('dataset', key)}.dvc"
        if described["dvc"] and parsed(tree.get(file, b"")) != described["dvc"]:
            yield broken(f"points at a later commit with another {file}", where)


def dvc_lock(evidence: Evidence) -> list[Finding]:
    """The text of dvc.lock against its hash and the commit's copy."""
    lock = evidence.record["dvc_lock"]
    found = sha256_bytes(lock["text"].encode())
    if found != lock["sha256"]:
        return [broken("text and hash differ", "record", lock["sha256"], found)]
    if not lock.get("committed"):
        return [verified("the record's own text; its commit does not contain it", "record")]
    where = f"commit {evidence.record['git']['commit'][:12]}"
    if evidence.tree is None:
        return [missing("the commit that contains it cannot be read", where)]
    copy = evidence.tree.get("dvc.lock")
    pair = ("dvc.lock", lock["sha256"], None if copy is None else sha256_bytes(copy))
    return compared("the record's text matches the commit", where, [pair])


def stages(evidence: Evidence) -> Iterator[Finding]:
    """Stages, parameters and code hashes: record, dvc.lock, commit and MLflow agree."""
    recorded = evidence.record["stages"]
    locked = (parsed(evidence.record["dvc_lock"]["text"].encode()) or {}).get("stages", {})
    pairs: list[Pair] = []
    for stage in recorded:
        name, entry = stage["name"], locked.get(stage["name"])
        again = entry and recording.stage(name, entry)
        both = stage.keys() & (again or stage).keys()
        sides = ({key: side[key] for key in both} if side else None for side in (stage, again))
        pairs.append((name, *sides))
        pairs.append((f"{name} params", stage["params_sha256"], sha256_json(stage["params"])))
    yield from compared("the record's stages match dvc.lock", "dvc.lock", pairs)
    yield from compared(
        "each stage read what the one before it wrote", "record", _handovers(recorded)
    )
    if evidence.run:
        params: dict[str, str] = {}
        for stage in recorded:
            params |= dict(leaves(stage["params"].get("params.yaml", {})))
        pairs = [
            (name, text[:6000], evidence.run.params.get(name))
            for name, text in sorted(params.items())
        ]
        yield from compared("MLflow's parameters match the stages", "MLflow parameter", pairs)
    if evidence.tree is None:
        yield missing("the commit's code cannot be read", "git repository")
    elif evidence.clean:  # else `commit` says so, and its files need not be the ones that ran
        where = f"commit {evidence.record['git']['commit'][:12]}"
        pairs = list(_commit_pairs(evidence, evidence.tree))
        yield from compared("commands, parameters and code match the commit", where, pairs)


def _handovers(recorded: list[dict[str, Any]]) -> Iterator[Pair]:
    """What each stage read of what an earlier one wrote."""
    made: dict[str, tuple[str, str]] = {}
    for stage in recorded:
        for row in stage["deps"]:
            if (written := _written(row["path"], made)) is not None:
                yield f"{stage['name']} read {row['path']}", written, _hash(row)
        made |= {row["path"]: _hash(row) for row in stage["outs"]}


def _written(path: str, made: Mapping[str, tuple[str, str]]) -> tuple[str, str] | None:
    """The hash of a path that stages wrote, by itself or as files in it; None where none did."""
    if path in made:
        return made[path]
    inside = {name.removeprefix(f"{path}/"): made[name][1] for name in below(path, made)}
    return ("md5", folder_of(inside)) if inside else None


def _hash(row: Mapping[str, Any]) -> tuple[str, str]:
    kind = next(name for name in recording.HASHES if name in row)
    return kind, str(row[kind])


def _commit_pairs(evidence: Evidence, tree: Mapping[str, bytes]) -> Iterator[Pair]:
    """Commands, parameters and code of every stage, and the commit's own files."""
    written = (parsed(tree.get("dvc.yaml", b"")) or {}).get("stages", {})
    params = parsed(tree.get("params.yaml", b"")) or {}
    outs, data = evidence.outs(), evidence.names.path("dataset")
    for stage in evidence.record["stages"]:
        base, _, item = stage["name"].partition("@")
        block = written.get(base, {})
        command = str(block.get("do", block).get("cmd")).replace("${item}", item)
        yield f"dvc.yaml {stage['name']}", stage["command"], command
        for key, value in stage["params"].get("params.yaml", {}).items():
            yield f"params.yaml {key}", value, _at(params, key)
        for row in stage["deps"]:
            made = row["path"] in outs or below(row["path"], outs)
            if not made and not row["path"].startswith(data):
                yield row["path"], row.get("md5"), _code_hash(tree, row["path"])


def _at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def _code_hash(tree: Mapping[str, bytes], path: str) -> str | None:
    """A path's MD5 as DVC computes it, from the commit's files."""
    if path in tree:
        return md5_of(tree[path])
    inside = {p[len(path) + 1 :]: data for p, data in tree.items() if p.startswith(f"{path}/")}
    return folder_md5(inside) if inside else None
