"""The pseudo-masks of this workspace's last run as regions of a data set's boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from components.core.errors import InputError
from components.core.files import inside, sha256_file
from components.core.images import MAX_MEGAPIXELS, open_photo
from components.core.paths import LABELS, PREPARED, PSEUDO_MASKS
from components.data import manifest as manifests
from components.data.dataset import PHOTOS
from components.data.scan import run
from components.ingest.formats.record import Box, Record
from components.ingest.formats.regions import from_array
from components.pseudo_label.label import boxes_by_photo

_STALE = "choose the data set of the last run, or run `iml run` again"
_ROUNDING = 1e-6  # pixels, of x + width - x


def add(records: Sequence[Record], threshold: float, root: Path) -> tuple[list[Record], int]:
    """Give each box without a region its part of the photo's accepted pseudo-mask.

    `root` is the folder of the records' data set. Returns the records and how many of the photos
    have an accepted pseudo-mask.

    Raises:
        InputError: no run, or one of other photos or boxes.
    """
    labels = manifests.read_columns(LABELS, "image_id", "accepted")
    prepared = manifests.read(PREPARED).select(dataset=root.name)
    known = {record.name for record in records}
    names = _names(prepared.images, root.name)
    labelled = labels[labels["image_id"].isin(names.keys())]
    strange = [name for name in map(names.__getitem__, labelled["image_id"]) if name not in known]
    if strange or (len(labels) and labelled.empty):
        other = min(strange, default=labels["image_id"].min())
        what = f"pseudo-masks of another data set: {other} is not in this one"
        raise InputError(what, where=str(LABELS), hint=_STALE)
    accepted = {names[name]: name for name in labelled["image_id"][labelled["accepted"]]}
    hashes = dict(zip(prepared.images["image_id"], prepared.images["sha256"], strict=True))
    boxes = boxes_by_photo(prepared.boxes)

    def masked(record: Record) -> Record:
        if (image_id := accepted.get(record.name)) is None:
            return record
        if sha256_file(record.photo) != hashes[image_id]:
            raise InputError(f"{record.name} is not the photo that was labelled", hint=_STALE)
        if not _equal(boxes.get(image_id), _corners(record.boxes)):
            raise InputError(f"{record.name} was labelled with other boxes", hint=_STALE)
        return _masked(record, inside(PSEUDO_MASKS, f"{image_id}.png"), threshold)

    return run(masked, records), len(accepted)


def _names(images: pd.DataFrame, dataset: str) -> dict[str, str]:
    """Image ids and the names of these photos within their data set."""
    paths = images["path"].str.removeprefix(f"{dataset}/").str.removeprefix(f"{PHOTOS}/")
    return dict(zip(images["image_id"], paths, strict=True))


def _corners(boxes: Sequence[Box]) -> np.ndarray:
    """float64 (N, 4): x0, y0, x1, y1."""
    sides = np.array([(box.x, box.y, box.width, box.height) for box in boxes], float).reshape(-1, 4)
    return np.hstack([sides[:, :2], sides[:, :2] + sides[:, 2:]])


def _equal(one: np.ndarray | None, other: np.ndarray) -> bool:
    return (
        one is not None
        and one.shape == other.shape
        and np.allclose(one, other, rtol=0, atol=_ROUNDING)
    )


def _masked(record: Record, file: Path, threshold: float) -> Record:
    """A photo's boxes with their parts of its pseudo-mask."""
    width, height = record.size or (0, 0)
    soft = open_photo(file, max(MAX_MEGAPIXELS, width * height / 1e6))[:, :, 0]
    if soft.shape != (height, width):
        raise InputError(f"is not {width}x{height} as its photo", where=str(file), hint=_STALE)
    parts = share(soft > threshold * 255, _corners(record.boxes))
    boxes = [
        replace(box, region=box.region or (from_array(part) if part.any() else None))
        for box, part in zip(record.boxes, parts, strict=True)
    ]
    return replace(record, boxes=tuple(boxes))


def share(mask: np.ndarray, boxes: np.ndarray) -> list[np.ndarray]:
    """A photo's mask cut into one for each box: every pixel goes to the nearest box.

    The mask is the union over all boxes; it may reach a little out of them. Of boxes that overlap
    the smallest takes the pixel.
    """
    ys, xs = np.nonzero(mask)
    nearest, owner = np.full(len(ys), np.inf), np.zeros(len(ys), int)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for number in np.argsort(areas, kind="stable"):
        x0, y0, x1, y1 = boxes[number]
        away_x = np.maximum(np.maximum(x0 - xs - 0.5, xs + 0.5 - x1), 0)
        away_y = np.maximum(np.maximum(y0 - ys - 0.5, ys + 0.5 - y1), 0)
        away = np.hypot(away_x, away_y)
        closer = away < nearest
        nearest[closer], owner[closer] = away[closer], number
    parts = np.zeros((len(boxes), *mask.shape), bool)
    parts[owner, ys, xs] = True
    return list(parts)
