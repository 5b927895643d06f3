"""Which photos and boxes a version was made from, and which versions a photo went into."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from components.core.errors import CheckError, InputError
from components.core.files import sha256_bytes
from components.data.manifest import Manifest
from components.lineage.collect import collect
from components.lineage.evidence import Evidence
from components.registry.chain import Event
from components.registry.versions import Registry
from components.workspace.remote import md5_of

EVALUATED = "evaluated"  # in a data set on which the version was only scored
_USED = ("image_id", "path", "sha256", "split")
_NEEDED = (*_USED, "label")
_MORE = ("group", "source", "n_boxes")
_FIELDS = (*_NEEDED, "dataset", *_MORE)
_COMPARED = ("mask_sha256",)
POOL = "pool"  # in the pool, which trains without annotation
_ROLES = {
    POOL: "trained on, without annotation",
    "train": "trained on",
    "val": "chose the checkpoint",
    "test": "scored on",
}


def tables(
    evidence: Evidence,
    needed: Sequence[str] = _NEEDED,
    more: Sequence[str] = (*_MORE, *_COMPARED),
) -> Manifest:
    """The version's manifest and boxes; raises EvidenceError where they are missing or changed.

    Paths are below the folder of all data sets; the split of a photo of the pool is `POOL`. Columns
    of the manifest that are `needed` must be in it, those named by `more` may.
    """
    images = evidence.photos(needed, optional=[*more, "pool"])
    if "pool" in images:
        images["split"] = images["split"].mask(images["pool"].eq(True), POOL)
    return Manifest(images, evidence.table("boxes", ("image_id", "x0", "y0", "x1", "y1")))


def rows(evidence: Evidence) -> list[dict[str, Any]]:
    """Every photo of the version with its boxes, as plain JSON; raises as `tables` does."""
    found = tables(evidence)
    boxes = boxes_by_photo(found.boxes)
    return [
        {
            **{name: None if pd.isna(row.get(name)) else row[name] for name in _FIELDS},
            "role": _ROLES.get(row["split"], ""),
            "erased": row["sha256"] in evidence.tombstones.photos,
            "boxes": boxes.get(row["image_id"], []),
        }
        for row in found.images.to_dict("records")
    ]


def boxes_by_photo(frame: pd.DataFrame) -> dict[str, list[list[float]]]:
    """Boxes by photo: x0, y0, x1, y1 in pixels."""
    found: dict[str, list[list[float]]] = {}
    columns = (frame[name] for name in ("image_id", "x0", "y0", "x1", "y1"))
    for name, *box in zip(*columns, strict=True):
        found.setdefault(str(name), []).append([float(value) for value in box])
    return found


@dataclass(frozen=True)
class Use:
    """One version that a photo went into."""

    version: int
    path: str  # below data/
    split: str  # train | val | test | pool | evaluated
    boxes: list[list[float]]  # x0, y0, x1, y1 in pixels of each


@dataclass(frozen=True)
class Uses:
    """Where a photo was used, and the versions for which it is unknown, with the reason."""

    sha256: str
    found: list[Use]
    unknown: dict[int, str]


def uses(model: str, photo: str) -> Uses:
    """Every version of a model that a photo, a file or the SHA-256 of one, went into.

    Raises:
        InputError: neither a hash nor a file; a registry that does not answer.
    """
    sha256, md5 = _identify(photo)
    found: list[Use] = []
    unknown: dict[int, str] = {}
    for row in Registry.open(model).rows():
        if row.event != Event.REGISTERED:
            continue
        with collect(f"{model}/{row.version}", whole=False) as evidence:
            try:
                found += uses_in(evidence, {sha256: md5})[sha256]
            except CheckError as error:
                unknown[row.version] = error.line()
    return Uses(sha256, found, unknown)


def _identify(photo: str) -> tuple[str, set[str]]:
    """SHA-256 of a photo and, of a file, its MD5."""
    if re.fullmatch(r"[0-9a-f]{64}", photo.lower()):
        return photo.lower(), set()
    if not Path(photo).is_file():
        raise InputError(f"{photo!r} is neither a SHA-256 nor a file", where="--photo")
    data = Path(photo).read_bytes()
    return sha256_bytes(data), {md5_of(data)}


def uses_in(evidence: Evidence, photos: Mapping[str, set[str]]) -> dict[str, list[Use]]:
    """Uses in one version: by the manifest, and by bytes in the sets it was only scored on.

    Args:
        evidence: of the version.
        photos: MD5 of each photo, as far as they are known, by its SHA-256.

    Raises:
        CheckError: its manifest or what it read is unknown.
    """
    found = tables(evidence, _USED, ())
    used = found.images[found.images["sha256"].isin(photos)].to_dict("records")
    names = [row["image_id"] for row in used]
    boxes = boxes_by_photo(found.boxes[found.boxes["image_id"].isin(names)])
    uses: dict[str, list[Use]] = {sha256: [] for sha256 in photos}
    for row in used:
        own = boxes.get(row["image_id"], [])
        uses[row["sha256"]].append(Use(evidence.version, row["path"], row["split"], own))
    prepared = {evidence.names.path("dataset", name) for name in evidence.datasets}
    if not (others := [root for root in evidence.inputs() if root not in prepared]):
        return uses
    files, data = evidence.data_files(), evidence.names.path("dataset")
    photo_of = {md5: sha256 for sha256, known in photos.items() for md5 in known}
    photo_of |= {files[row["path"]]: row["sha256"] for row in used if row["path"] in files}
    for root in others:
        for name, md5 in evidence.input_files(root).items():
            if sha256 := photo_of.get(md5):
                place = f"{root.removeprefix(data)}/{name}"
                uses[sha256].append(Use(evidence.version, place, EVALUATED, []))
    return uses
