"""Checks of photos, boxes and everything else that DVC's remote holds."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from components.core.errors import CheckError
from components.core.files import sha256_bytes
from components.data import manifest
from components.lineage.evidence import Evidence, parsed
from components.lineage.verdict import Finding, Pair, broken, compared, missing, verified
from components.registry import layout
from components.workspace.remote import MissingError

_NAMED = 10  # missing objects that are named one by one
MANIFEST, BOXES = "runs/prepare/manifest.parquet", "runs/prepare/boxes.parquet"


def refused(link: str, path: str, error: CheckError) -> Finding:
    """The finding for an object that could not be read."""
    if isinstance(error, MissingError) or "no DVC remote" in error.what:
        return missing(link, error.what, path)
    return broken(link, f"the object in the remote was changed: {error.what}", path)


def data(evidence: Evidence) -> list[Finding]:
    """Data sets against stages, commit and remote; the manifest against the data set's files."""
    link = "data"
    if evidence.record is None:
        return [missing(link, "depends on the lineage record, which is missing or broken")]
    found: list[Finding] = []
    for name, said in evidence.record["datasets"].items():
        found += _dataset(evidence, name, said)
    found += _present(evidence)
    try:
        rows = table(evidence, MANIFEST, manifest.IMAGES)
    except CheckError as error:
        return [*found, refused(link, MANIFEST, error)]
    return [*found, *_manifest(evidence, rows)]


def table(evidence: Evidence, path: str, schema: pa.Schema) -> pd.DataFrame:
    """A Parquet output of the version, from the remote; raises CheckError or MissingError."""
    read = evidence.read(path, evidence.outs()[path])
    try:
        found = pq.read_table(io.BytesIO(read))
    except pa.ArrowInvalid as error:
        raise CheckError(f"not a Parquet file ({error})", where=path) from None
    if not set(schema.names) <= set(found.schema.names):
        raise CheckError(f"has columns {found.schema.names}", where=path)
    return found.to_pandas()


def _dataset(evidence: Evidence, name: str, said: dict[str, Any]) -> Iterator[Finding]:
    """One data set: its DVC file, its listing, its description and its boxes."""
    link, path = "data", f"data/{name}"
    md5 = evidence.inputs().get(path)
    tracked = {row.get("path"): row.get("md5") for row in (said["dvc"] or {}).get("outs", [])}
    if md5 is None or not tracked:
        yield missing(link, "is not tracked by DVC, so its photos are in no remote", path)
        return
    pairs: list[Pair] = [(f"{path}.dvc", md5, tracked.get(name))]
    if evidence.clean and evidence.tree is not None:
        held = parsed(evidence.tree.get(f"{path}.dvc", b""))
        pairs.append((f"{path}.dvc of the commit", said["dvc"], held))
    yield from compared(link, f"{path} matches stages and commit", "", pairs)
    try:
        listed = evidence.listing(path, md5)
        read = {f: evidence.read(f"{path}/{f}", listed[f]) for f in ("dataset.yaml", "boxes.json")}
    except KeyError as error:
        yield broken(link, f"lists no {error.args[0]}", path)
        return
    except CheckError as error:
        yield refused(link, path, error)
        return
    described = parsed(read["dataset.yaml"]) or {}
    yield from compared(
        link,
        "boxes, licence and source match the record",
        path,
        [
            ("boxes.json", said["boxes_sha256"], sha256_bytes(read["boxes.json"])),
            ("dataset.yaml", said["dataset_yaml_sha256"], sha256_bytes(read["dataset.yaml"])),
            ("licence", said["licence"], str(described.get("licence"))),
            ("source", said["source"], str(described.get("source", ""))),
        ],
    )


def contents(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """(path, MD5) of every file that the version's stages read or wrote and the remote holds.

    Folders come as their listing (ending in `.dir`) and as their files. A listing that cannot be
    read comes alone; `data` tells of it.
    """
    for path, md5 in sorted({**evidence.inputs(), **evidence.outs()}.items()):
        yield path, md5
        if md5.endswith(".dir"):
            try:
                listed = evidence.listing(path, md5)
            except CheckError:
                continue
            yield from ((f"{path}/{name}", digest) for name, digest in sorted(listed.items()))


def _unreadable(evidence: Evidence) -> Iterator[Finding]:
    """Listings of folders that are there and cannot be read."""
    for path, md5 in sorted({**evidence.inputs(), **evidence.outs()}.items()):
        if md5.endswith(".dir"):
            try:
                evidence.listing(path, md5)
            except MissingError:
                continue  # named with the other missing objects
            except CheckError as error:
                yield refused("data", path, error)


def _present(evidence: Evidence) -> list[Finding]:
    """That the remote has every object; their bytes are hashed by a deep audit only."""
    if evidence.objects is None:
        return [missing("data", "there is no DVC remote here")]
    named = {md5: path for path, md5 in contents(evidence)}
    lost = evidence.objects.missing(named)
    found = list(_unreadable(evidence))  # nobody knows whether what those list is there
    if len(lost) > _NAMED:
        what = f"{len(lost)} objects are missing from the remote"
        found.append(missing("data", what, f"{named[lost[0]]}, ..."))
    else:
        what = "object {} is missing from the remote"
        found += [missing("data", what.format(md5), named[md5]) for md5 in lost]
    what = f"the remote has all {len(named)} objects"
    return found or [verified("data", what, evidence.objects.name)]


def _manifest(evidence: Evidence, rows: pd.DataFrame) -> list[Finding]:
    """Every photo and mask of the manifest is a file of the data set."""
    root = f"data/{evidence.dataset}"
    try:
        listed = evidence.listing(root, evidence.inputs()[root])
    except CheckError:
        return []  # said above
    named = [*rows["path"], *rows["mask_path"].dropna()]
    pairs: list[Pair] = [(p, True, p in listed or None) for p in named]
    copy = evidence.files / layout.MANIFEST
    held = (
        hashlib.md5(copy.read_bytes(), usedforsecurity=False).hexdigest()
        if copy.is_file()
        else None
    )
    return [
        *compared("data", "every photo and mask of the manifest is in the data set", root, pairs),
        *compared(
            "data",
            "the version's copy of the manifest matches the stage's output",
            "MLflow model",
            [(layout.MANIFEST, evidence.outs()[MANIFEST], held)],
        ),
    ]


def photo_hashes(evidence: Evidence) -> dict[str, str]:
    """SHA-256 that the manifest gives of every photo and mask, by path below the workspace."""
    try:
        rows = table(evidence, MANIFEST, manifest.IMAGES)
    except (CheckError, KeyError):
        return {}
    masks = rows[rows["mask_path"].notna() & rows["mask_sha256"].notna()]
    both = [
        *zip(rows["path"], rows["sha256"], strict=True),
        *zip(masks["mask_path"], masks["mask_sha256"], strict=True),
    ]
    return {f"data/{evidence.dataset}/{path}": digest for path, digest in both}
