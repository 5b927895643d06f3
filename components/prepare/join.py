"""Several data sets as one manifest in which nothing that belongs together crosses splits.

Each data set is grouped and split by itself, as if it were the only one; its own split stays. What
is alike in two of them is then one group, and where its parts are in different splits it goes
whole to where it is held back: `test` before `val` before `train`. Photos of the pool always
train; those like a photo held back are left out, and no annotated photo moves because of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from components.core.errors import InputError
from components.core.params import Prepare
from components.data import groups
from components.data.build import assemble
from components.data.dataset import unique
from components.data.index import Indexed
from components.data.manifest import BOXES, IMAGES, MANIPULATED, Manifest, typed
from components.data.scan import Quarantined

_HELD_BACK = ("test", "val")  # a group that is in both goes to the first


@dataclass(frozen=True)
class Joined:
    """The one manifest, and what became of photos that are alike in several data sets.

    Attributes:
        manifest: of all data sets; paths are below `data/`.
        moved: photos that a group took into another split, by data set and new split.
        left_out: photos of the pool that are like one held back.
    """

    manifest: Manifest
    moved: dict[tuple[str, str], list[str]]
    left_out: list[Quarantined]


def join(parts: Mapping[str, Indexed], params: Prepare, pool: Collection[str]) -> Joined:
    """One manifest of what was found in each data set, in this order.

    Ids and groups of the first data set are as they would be of it alone; those of another start
    with its name.

    Raises:
        InputError: a manipulated photo in the pool; two photos with one id.
    """
    first = next(iter(parts))
    made = [
        _named(name, assemble(name, found, params), prefix(name, first))
        for name, found in parts.items()
    ]
    images = pd.concat([part.images for part in made], ignore_index=True)
    boxes = pd.concat([part.boxes for part in made], ignore_index=True)
    unique("image_id", images["image_id"], "prepare.datasets")
    images["pool"] = images["dataset"].isin(pool)
    _refuse_manipulated(images[images["pool"]])
    images.loc[images["pool"], "split"] = "train"
    moved, left_out = {}, images.iloc[:0]
    if len(parts) > 1:
        pairs = _alike(images, params.near_duplicate_bits)
        moved = _keep_together(images, pairs)
        left_out = images[_like_held_back(images, pairs)]
        images = images.drop(left_out.index)
    images = images.sort_values("image_id", kind="stable", ignore_index=True)
    boxes = boxes.sort_values("image_id", kind="stable", ignore_index=True)
    why = "like a photo held back for val or test in another data set"
    return Joined(
        Manifest(typed(images, IMAGES), typed(boxes, BOXES)),
        moved,
        [Quarantined(name, why) for name in left_out["image_id"]],
    )


def prefix(name: str, first: str) -> str:
    """How ids of a data set's photos start: with its name, but for the first data set's."""
    return "" if name == first else f"{name}/"


def _named(name: str, made: Manifest, start: str) -> Manifest:
    """A data set's manifest with paths below `data/`, and ids and groups that start like this."""
    images = made.below(name).images.assign(
        image_id=start + made.images["image_id"], group=start + made.images["group"]
    )
    return Manifest(images, made.boxes.assign(image_id=start + made.boxes["image_id"]))


def _refuse_manipulated(images: pd.DataFrame) -> None:
    wrong = images[images["label"] == MANIPULATED]
    if len(wrong):
        name, dataset = wrong[["image_id", "dataset"]].iloc[0]
        raise InputError(
            f"the pool has {len(wrong)} manipulated photo{'s' * (len(wrong) > 1)}, {name} first",
            where=f"data/{dataset}",
            hint="a pool has authentic photos only; take it out of distill.pool to learn its boxes",
        )


def _alike(images: pd.DataFrame, bits: int) -> np.ndarray:
    """Pairs of rows of different data sets, equal in bytes or nearly in hashes: int64 (P, 2)."""
    near = groups.near_duplicates(images["phash"].tolist(), bits)
    codes = pd.factorize(images["sha256"])[0]
    order = np.argsort(codes, kind="stable")
    equal = np.flatnonzero(codes[order][1:] == codes[order][:-1])
    same = np.stack([order[equal], order[equal + 1]], axis=1)
    pairs = np.concatenate([near, same])
    of = pd.factorize(images["dataset"])[0]
    return pairs[of[pairs[:, 0]] != of[pairs[:, 1]]]


def _keep_together(images: pd.DataFrame, pairs: np.ndarray) -> dict[tuple[str, str], list[str]]:
    """Give annotated photos that are alike one group and one split (in place); which moved."""
    pool = images["pool"].to_numpy(dtype=bool)
    annotated = pairs[~pool[pairs].any(axis=1)]
    images["group"] = groups.link([[group] for group in images["group"]], annotated)
    crossing = images[~pool].groupby("group")["dataset"].nunique()
    rows = images[~pool & images["group"].isin(crossing.index[crossing > 1])]
    moved: dict[tuple[str, str], list[str]] = {}
    for _, group in rows.groupby("group"):
        held = next((split for split in _HELD_BACK if (group["split"] == split).any()), "train")
        for row in group[group["split"] != held].itertuples():
            images.loc[row.Index, "split"] = held
            moved.setdefault((str(row.dataset), held), []).append(str(row.image_id))
    return moved


def _like_held_back(images: pd.DataFrame, pairs: np.ndarray) -> np.ndarray:
    """The pool's photos that are alike or in a group with an annotated one held back: bool (N,)."""
    linked = np.array(groups.link([[group] for group in images["group"]], pairs))
    pool = images["pool"].to_numpy(dtype=bool)
    held = ~pool & images["split"].isin(_HELD_BACK).to_numpy()
    return pool & np.isin(linked, linked[held])
