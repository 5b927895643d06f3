"""Checks of photos, boxes and everything else that DVC's remote holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

from components.core.errors import CheckError
from components.core.files import sha256_bytes
from components.lineage.evidence import ErasedError, Evidence, UnknownError, parsed
from components.lineage.verdict import Finding, Pair, broken, compared, missing, remark, verified
from components.registry.signing import UntrustedError
from components.workspace.remote import MissingError, md5_of

_COLUMNS = ("path", "sha256", "mask_path", "mask_sha256")  # of the manifest
_NAMED = 10  # missing objects that are named one by one


def refused(error: CheckError, where: str = "") -> Finding:
    """The finding for an object that could not be read; one that was erased is no fault."""
    if isinstance(error, ErasedError):
        return verified(error.what, where or error.where)
    if isinstance(error, MissingError | UnknownError):
        return missing(error.what, where or error.where)
    return broken(f"the object in the remote was changed: {error.what}", where or error.where)


def data(evidence: Evidence) -> Iterator[Finding]:
    """Data sets against stages, commit and remote; the manifest against the data set's files."""
    for name, described in evidence.record["datasets"].items():
        yield from _dataset(evidence, name, described)
    yield from _present(evidence)
    for path, problem in evidence.tombstones.problems.items():
        unknown = isinstance(problem, UntrustedError)
        yield (missing if unknown else broken)(problem.what, path)
    try:
        rows = evidence.photos(_COLUMNS)
    except CheckError as error:
        yield refused(error)
    else:
        yield from _manifest(evidence, rows)


def _dataset(evidence: Evidence, name: str, described: dict[str, Any]) -> Iterator[Finding]:
    """One data set: its DVC file, its listing, its description and its boxes."""
    path = evidence.names.path("dataset", name)
    md5 = evidence.inputs().get(path)
    tracked = {row.get("path"): row.get("md5") for row in (described["dvc"] or {}).get("outs", [])}
    if md5 is None or not tracked:
        yield missing("is not tracked by DVC, so its photos are in no remote", path)
        return
    pairs: list[Pair] = [(f"{path}.dvc", md5, tracked.get(name))]
    if evidence.clean and evidence.tree is not None:
        committed = parsed(evidence.tree.get(f"{path}.dvc", b""))
        pairs.append((f"{path}.dvc of the commit", described["dvc"], committed))
    yield from compared(f"{path} matches stages and commit", "", pairs)
    try:
        files = evidence.listing(path, md5)
        read = {f: evidence.read(f"{path}/{f}", files[f]) for f in ("dataset.yaml", "boxes.json")}
    except KeyError as error:
        yield broken(f"lists no {error.args[0]}", path)
        return
    except CheckError as error:
        yield refused(error, path)
        return
    found = parsed(read["dataset.yaml"]) or {}
    pairs = [
        ("boxes.json", described["boxes_sha256"], sha256_bytes(read["boxes.json"])),
        ("dataset.yaml", described["dataset_yaml_sha256"], sha256_bytes(read["dataset.yaml"])),
        ("licence", described["licence"], str(found.get("licence"))),
        ("source", described["source"], str(found.get("source", ""))),
    ]
    yield from compared("boxes, licence and source match the record", path, pairs)


def contents(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """(path, MD5) of every file that the version's stages read or wrote and the remote holds.

    Folders come as their listing (ending in `.dir`) and as their files. A listing that cannot be
    read comes alone; `data` reports it.
    """
    for path, md5 in sorted({**evidence.inputs(), **evidence.outs()}.items()):
        yield path, md5
        if md5.endswith(".dir"):
            try:
                files = evidence.listing(path, md5)
            except CheckError:
                continue
            yield from ((f"{path}/{name}", digest) for name, digest in sorted(files.items()))


def _present(evidence: Evidence) -> Iterator[Finding]:
    """That the remote has every object; their bytes are hashed by a deep audit only."""
    if evidence.objects is None:
        yield missing("there is no DVC remote here")
        return
    every = list(contents(evidence))
    named = {md5: path for path, md5 in reversed(every)}  # the first of several
    absent = evidence.objects.missing(named)
    stones = evidence.tombstones.objects
    lost = [md5 for md5 in absent if md5 not in stones]
    found = [
        broken(
            f"object {md5} has a tombstone, but is still in {evidence.objects.place(md5)}: "
            "erase it again",
            named[md5],
        )
        for md5 in sorted((named.keys() & stones.keys()) - set(absent))
    ]
    for path, md5 in every:
        try:
            if md5.endswith(".dir") and md5 not in absent:
                evidence.listing(path, md5)
        except CheckError as error:
            found.append(refused(error))  # whether what it lists is there is unknown
    if len(lost) > _NAMED:
        first = evidence.objects.place(lost[0])
        what = f"{len(lost)} objects are missing, the first from {first}"
        found.append(missing(what, f"{named[lost[0]]}, ..."))
    else:
        for md5 in lost:
            what = f"object {md5} is missing from {evidence.objects.place(md5)}"
            found.append(missing(what, named[md5]))
    erased = Counter(stones[md5].line() for md5 in absent if md5 in stones)
    urls = "".join(f" or {one.url}" for one in evidence.objects.imports())
    what = f"the remote{urls} has all {len(named) - erased.total()} objects"
    yield from found or [verified(what, evidence.objects.name)]
    for line, count in erased.items():
        yield remark(f"{count} objects are absent, by tombstone ({line})", evidence.objects.name)


def _manifest(evidence: Evidence, rows: pd.DataFrame) -> Iterator[Finding]:
    """Every photo and mask of the manifest is a file of a data set."""
    try:
        files = evidence.data_files()
    except CheckError:
        return  # reported by `_dataset`
    named = [*rows["path"], *rows["mask_path"].dropna()]
    for name, paths in _by_dataset(named).items():
        root = evidence.names.path("dataset", name)
        pairs: list[Pair] = [(path, True, f"{name}/{path}" in files or None) for path in paths]
        yield from compared("every photo and mask of the manifest is in the data set", root, pairs)
    place = evidence.names.file("manifest")
    copy, md5 = evidence.files / place, None
    if copy.is_file():
        md5 = md5_of(copy.read_bytes())
    what = "the version's copy of the manifest matches the stage's output"
    pair = (place, evidence.outs()[evidence.names.path("manifest")], md5)
    yield from compared(what, "MLflow model", [pair])


def _by_dataset(paths: Iterable[str]) -> dict[str, list[str]]:
    """Paths below the folder of all data sets as paths below each one's own."""
    found: dict[str, list[str]] = {}
    for path in paths:
        name, _, inner = path.partition("/")
        found.setdefault(name, []).append(inner)
    return found


def photo_hashes(evidence: Evidence) -> dict[str, str]:
    """SHA-256 that the manifest gives of every photo and mask, by path below the workspace."""
    try:
        rows = evidence.photos(_COLUMNS)
    except (CheckError, KeyError):
        return {}
    masks = rows[rows["mask_path"].notna() & rows["mask_sha256"].notna()]
    both = [
        *zip(rows["path"], rows["sha256"], strict=True),
        *zip(masks["mask_path"], masks["mask_sha256"], strict=True),
    ]
    data = evidence.names.path("dataset")
    return {f"{data}{path}": digest for path, digest in both}
