"""Which photos of a data set a model is scored on, and whether they can decide on promotion."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from components.core.params import Params, Prepare
from components.core.paths import DATA, PREPARED
from components.core.progress import Progress
from components.data import dataset as datasets
from components.data import groups
from components.data import manifest as manifests
from components.data.build import build
from components.data.manifest import AUTHENTIC, MANIPULATED, Manifest
from components.data.scan import refuse_many


def held_back(
    root: Path, settings: Prepare, progress: Progress | None = None
) -> tuple[Manifest, str]:
    """A data set's photos that no model was trained on, and which they are in words.

    Of a data set that states splits, its `test` photos, or `val` where it has no `test`. Of one
    that states none, all: whoever trains on it here names it in `prepare.datasets`, and then the
    test split drawn for it applies.

    Args:
        root: the data set's folder.
        settings: how its manifest is made.
        progress: called as progress(done, total) with photos looked at.

    Raises:
        InputError: no usable data set, or more unusable photos than `max_quarantined`.
    """
    dataset = datasets.load(root)
    manifest, quarantine = build(root, settings, progress)
    refuse_many(quarantine, settings.max_quarantined, root)
    if dataset.split == "grouped" and root.resolve() in {
        (DATA / name).resolve() for name in settings.datasets
    }:
        return manifest.select("test"), "test split"
    for split in _splits(dataset):
        names = [row["file_name"] for row in dataset.images if row.get("split") == split]
        photos = manifest.where(manifest.images["image_id"].isin(names))
        if len(photos.images):
            return photos, f"{split} split"
    return manifest, "all photos"


def _splits(dataset: datasets.Dataset) -> tuple[str, ...]:
    """The splits that hold photos back, the one to prefer first."""
    return () if dataset.split == "grouped" else ("test", "val")


def unseen(photos: Manifest, prepared: pd.DataFrame, bits: int) -> Manifest:
    """Those photos that a student was neither trained nor tuned on, nor on a near-duplicate.

    Args:
        photos: to be scored.
        prepared: rows of the manifest that the student was trained with.
        bits: perceptual hashes that differ by at most this make near-duplicates.
    """
    images = photos.images
    known = prepared[prepared["split"] != "test"]
    both = pd.concat([images["phash"], known["phash"]])
    rows = [[str(row)] for row in range(len(both))]
    names = pd.Series(groups.link(rows, groups.near_duplicates(list(both), bits)))
    fresh, seen = names[: len(images)], names[len(images) :]
    known_bytes = images["sha256"].isin(known["sha256"]).to_numpy()
    known_photos = fresh.isin(seen).to_numpy() | known_bytes
    return photos.where(pd.Series(~known_photos, index=images.index))


def deciding(params: Params) -> pd.DataFrame:
    """`label` and `mask_path` of the photos whose figures decide on promotion.

    From the manifest that `prepare` wrote, or the index of the data set named for the gates.

    Raises:
        InputError: it cannot be read.
    """
    name = params.gate_dataset
    if name in params.prepare.datasets:
        return manifests.read(PREPARED).select(split="test", dataset=name).images
    dataset = datasets.load(DATA / name)
    rows = dataset.images
    for split in reversed(_splits(dataset)):
        rows = [row for row in dataset.images if row.get("split") == split] or rows
    columns = [(row["label"], row.get("mask")) for row in rows]
    return pd.DataFrame(columns, columns=["label", "mask_path"])


def undecidable(images: pd.DataFrame, which: str = "test ") -> str | None:
    """Why no version can be promoted by these test photos (see `deciding`); None where one can.

    Of a whole data set, `which` is empty: if none of its photos has a mask, no test photo has.
    """
    manipulated = images[images["label"] == MANIPULATED]
    authentic = len(images) - len(manipulated)
    wanted = "give masks for the test photos"
    if not len(manipulated) or not authentic:
        missing = AUTHENTIC if len(manipulated) else MANIPULATED
        found, wanted = f"there is no {missing} {which}photo", f"add {missing} {which}photos"
    elif manipulated["mask_path"].notna().any():
        return None
    else:
        found = f"0 of {len(manipulated)} manipulated {which}photos have a true mask"
    return (
        f"{found}: nothing trained on this can be promoted; {wanted}, "
        "or name another test set (evaluate.gate_dataset in params.yaml)"
    )
