"""From a data set's folder to its manifest: examine every file, draw boxes, group, split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from components.core.params import Prepare
from components.core.progress import Progress
from components.data import groups, splits
from components.data.index import Indexed, index
from components.data.manifest import IMAGES, Manifest, typed
from components.data.scan import Quarantined


def build(
    root: Path, params: Prepare, progress: Progress | None = None
) -> tuple[Manifest, list[Quarantined]]:
    """The manifest of one data set's folder, and the photos that cannot be used (not in it).

    Its paths are below the folder. Runs on all cores; equal files give equal tables.

    Raises:
        InputError: the folder is no usable data set.
    """
    found = index(root, params, progress)
    return assemble(root.name, found, params), found.quarantine


def assemble(name: str, found: Indexed, params: Prepare) -> Manifest:
    """Group and split the photos of one data set.

    Near-duplicates and photos of one group or origin are together; any other is its own group.
    """
    images = found.images
    pairs = groups.near_duplicates(images["phash"].tolist(), params.near_duplicate_bits)
    group = groups.link(images["keys"].tolist(), pairs)
    kinds = images["kind"].where(images["kind"].fillna("") != "", images["label"]).tolist()
    stated = [split if isinstance(split, str) else None for split in images["stated"]]
    split = splits.assign(group, kinds, stated, params.split, params.seed)
    frame = images.assign(dataset=name, pool=False, split=split, group=group)
    return Manifest(typed(frame, IMAGES), found.boxes)


def summary(manifest: Manifest, quarantine: Sequence[Quarantined]) -> dict[str, Any]:
    """Counts of a manifest; equal manifests give equal summaries.

    Photos of the pool count among all photos, and not among those of the splits.
    """
    images = manifest.images
    annotated = images[~images["pool"]]
    return {
        "photos": len(images),
        "boxes": len(manifest.boxes),
        "groups": int(images["group"].nunique()),
        "quarantined": len(quarantine),
        "splits": {str(name): _counts(rows["label"]) for name, rows in annotated.groupby("split")},
        "sources": int(images["source"].nunique()),
        "kinds": _counts(images["kind"].dropna()),
    }


def _counts(column: pd.Series) -> dict[str, int]:
    return {str(name): int(count) for name, count in sorted(column.value_counts().items())}
