"""The numbers that the expectations examine, derived from a manifest in vectorised passes.

Four tables: one row per photo, per box, per split and per class. A number is null where it does not
apply to the row - its photo is unknown, say, or a more basic check has failed already - and Great
Expectations leaves null values out, so that each fault is reported once.
Columns are float64 or strings: its comparisons are vectorised for these and slow for other types.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from components.core.errors import InputError
from components.core.files import inside, printable
from components.data.manifest import AUTHENTIC, MANIPULATED, SPLITS, Manifest

LABELS = (AUTHENTIC, MANIPULATED)
REQUIRED = ("image_id", "path", "sha256", "width", "height", "label", "split", "group")
COORDINATES = ["x0", "y0", "x1", "y1"]
# COCO keeps corner and size: their float sum may pass the photo's edge by a rounding error.
EDGE_TOLERANCE = 0.01  # pixels


class Table(NamedTuple):
    """Columns to judge (index 0..n-1), and a name per row: image id, split or class."""

    frame: pd.DataFrame
    ids: pd.Series


def _strings(values: pd.Series) -> pa.Array:
    """The same strings in Arrow, without a copy where pandas keeps them there already."""
    return pa.array(values, from_pandas=True).cast(pa.large_string())


def _position(values: pa.Array, among: pa.Array) -> np.ndarray:
    """Index of each value's first occurrence in `among`, int32; -1 for null and absent ones."""
    # Arrow's hash table needs a fifth of the memory of one over Python strings, and is given back.
    found = pc.fill_null(pc.index_in(values, value_set=among, skip_nulls=True), -1)
    positions = found.to_numpy(zero_copy_only=False)
    pa.default_memory_pool().release_unused()
    return positions


def _codes(values: pd.Series, known: Sequence[str]) -> np.ndarray:
    """Index of each value among the known ones; -1 for others."""
    return _position(_strings(values), pa.array(known, pa.large_string()))


def _only(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The values at these rows, NaN elsewhere."""
    return np.where(rows, values, np.nan)


def _numbers(values: pd.Series) -> np.ndarray:
    return values.to_numpy(dtype=np.float64, na_value=np.nan)


def _distinct(keys: np.ndarray, values: np.ndarray, kinds: int) -> np.ndarray:
    """Count the distinct known values among the rows that share a key; NaN without a key.

    Keys are in -1..len(keys)-1, values in -1..kinds-1; -1 is none.
    """
    seen = np.zeros((len(keys), kinds), dtype=bool)
    known = (keys >= 0) & (values >= 0)
    seen[keys[known], values[known]] = True
    return _only(seen.sum(axis=1, dtype=np.int32)[keys], keys >= 0)


def _missing_fields(images: pd.DataFrame) -> np.ndarray:
    """How many required fields a photo lacks; a side below one pixel counts as missing."""
    absent = np.zeros(len(images))
    for name in REQUIRED:
        absent += images[name].isna().to_numpy()
    for side in ("width", "height"):
        absent += _numbers(images[side]) < 1
    return absent


def _listing(root: Path, folder: str) -> pa.Array:
    """Paths of the files in a folder below `root`; none where it is absent or leaves the root."""
    try:
        with os.scandir(inside(root, folder)) as entries:
            names = [folder + printable(entry.name) for entry in entries if entry.is_file()]
    except (InputError, OSError):
        names = []
    return pa.array(names, pa.string())


def missing(root: Path, paths: pa.Array) -> np.ndarray:
    """Which paths name no file below `root`: one listing per folder, not one look-up per file.

    Paths are relative, with forward slashes, or null where there is none to look for. Returns bool
    (N,): True where there is a path and it names no file, or leaves the root.
    """
    folders = pc.unique(pc.replace_substring_regex(paths, "[^/]*$", "")).drop_null()
    listings = [_listing(root, folder) for folder in folders.to_pylist()]
    present = pa.chunked_array(listings, pa.string())
    found = pc.or_kleene(pc.is_in(paths, value_set=present), pc.is_null(paths))
    pa.default_memory_pool().release_unused()
    return ~found.to_numpy(zero_copy_only=False)


def _mask_offset(images: pd.DataFrame) -> np.ndarray:
    """Largest difference between the sides of photo and mask in pixels; NaN without a mask."""
    across = np.abs(_numbers(images["mask_width"].fillna(0)) - _numbers(images["width"]))
    down = np.abs(_numbers(images["mask_height"].fillna(0)) - _numbers(images["height"]))
    return _only(np.fmax(across, down), images["mask_path"].notna().to_numpy())


def _content(
    images: pd.DataFrame, rows: np.ndarray, labels: np.ndarray, splits: np.ndarray
) -> dict[str, np.ndarray]:
    """Per photo, the number of labels, of splits and of photos among files with its bytes."""
    hashes = _strings(images["sha256"])
    same = _position(hashes, hashes)
    of_label = _distinct(same, labels, len(LABELS))
    of_split = _distinct(same, splits, len(SPLITS))
    # A photo whose id occurs twice is one photo here; that fault has its own check.
    counted = (same >= 0) & (rows == np.arange(len(rows)))
    copies = np.bincount(same[counted], minlength=len(rows))[same]
    agreeing = (same >= 0) & (of_label <= 1) & (of_split <= 1)
    return {
        "content_labels": of_label,
        "content_splits": of_split,
        "content_copies": _only(copies, agreeing),
    }


def _photos(manifest: Manifest, root: Path, boxes: np.ndarray) -> Table:
    """Judge photos; `boxes` has the row of each box's photo."""
    images = manifest.images
    ids, groups = _strings(images["image_id"]), _strings(images["group"])
    rows = _position(ids, ids)
    labels, splits = _codes(images["label"], LABELS), _codes(images["split"], SPLITS)
    drawn = np.bincount(boxes[boxes >= 0], minlength=len(images))[rows]
    manipulated, test = labels == LABELS.index(MANIPULATED), splits == SPLITS.index("test")
    absent = missing(root, _strings(images["path"])).astype(np.float64)
    absent += missing(root, _strings(images["mask_path"]))
    columns = {
        "missing_fields": _missing_fields(images),
        "photo": _only(rows, rows >= 0),
        "label": images["label"],
        "split": images["split"],
        "missing_files": absent,
        "mask_offset": _mask_offset(images),
        **_content(images, rows, labels, splits),
        "group_splits": _distinct(_position(groups, groups), splits, len(SPLITS)),
        "boxes_authentic": _only(drawn, labels == LABELS.index(AUTHENTIC)),
        "boxes_learned": _only(drawn, manipulated & (splits >= 0) & ~test),
        "boxes_tested": _only(drawn, manipulated & test),
    }
    return Table(pd.DataFrame(columns, copy=False), images["image_id"])


def _repeated(corners: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """1 where another box of the same photo has the same corners, else 0."""
    frame = pd.DataFrame(corners, columns=COORDINATES)
    frame["photo"] = photo
    repeated = np.zeros(len(frame))
    # Hashes find the few candidates in one pass; only these are compared exactly.
    hashes = pd.util.hash_pandas_object(frame, index=False)
    suspects = np.flatnonzero(hashes.duplicated(keep=False).to_numpy())
    repeated[suspects] = frame.iloc[suspects].duplicated(keep=False)
    return repeated


def _outside(images: pd.DataFrame, corners: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """How far each box sticks out of its photo in pixels, 0 or less inside."""
    size = [_numbers(images[side])[photo] for side in ("width", "height")]
    return np.maximum.reduce(
        [-corners[:, 0], -corners[:, 1], corners[:, 2] - size[0], corners[:, 3] - size[1]]
    )


def _boxes(manifest: Manifest, photo: np.ndarray) -> Table:
    """Judge boxes: sides in pixels, areas in square pixels; `photo` has the row of each's photo."""
    # A last row of nulls takes the boxes of unknown photos: its position is -1.
    images = manifest.images[["width", "height"]]
    images = images.reindex(range(len(images) + 1))
    corners = manifest.boxes[COORDINATES].to_numpy(dtype=np.float64)
    finite = np.isfinite(corners)
    with np.errstate(invalid="ignore", over="ignore"):
        across, down = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
        area = across * down
    side = _only(np.minimum(across, down), finite.all(axis=1))
    upright = side > 0
    outside = _only(_outside(images, corners, photo), upright)
    whole = _numbers(images["width"] * images["height"])[photo]
    columns = {
        "known": (photo >= 0).astype(np.float64),
        "lost_coordinates": 4.0 - finite.sum(axis=1),
        "side": side,
        "short_side": _only(side, upright),
        "area": _only(area, upright),
        "outside": outside,
        "area_share": _only(area / np.fmax(whole, 1), outside <= EDGE_TOLERANCE),
        "repeated": _only(_repeated(corners, photo), finite.all(axis=1) & (photo >= 0)),
    }
    return Table(pd.DataFrame(columns, copy=False), manifest.boxes["image_id"])


def counts(images: pd.DataFrame) -> pd.DataFrame:
    """Number of photos, a row per known label and a column per known split."""
    labels, splits = _codes(images["label"], LABELS), _codes(images["split"], SPLITS)
    known = (labels >= 0) & (splits >= 0)
    cells = np.bincount(
        labels[known] * len(SPLITS) + splits[known], minlength=len(LABELS) * len(SPLITS)
    )
    table = cells.reshape(len(LABELS), len(SPLITS))
    return pd.DataFrame(table, index=list(LABELS), columns=list(SPLITS))


def _splits(table: pd.DataFrame) -> Table:
    photos = table.sum(axis=0).to_numpy(dtype=np.float64)
    spare = np.array([split == "val" for split in SPLITS])
    frame = pd.DataFrame({"needed": _only(photos, ~spare), "wanted": _only(photos, spare)})
    return Table(frame, pd.Series(SPLITS))


def _classes(table: pd.DataFrame) -> Table:
    photos = table.sum(axis=1).to_numpy(dtype=np.float64)
    learned = table["train"].to_numpy(dtype=np.float64)
    columns = {
        "learned": _only(learned, np.full(len(LABELS), learned.any())),
        "share": _only(photos / max(photos.sum(), 1), learned > 0),
    }
    return Table(pd.DataFrame(columns), pd.Series(LABELS))


def derive(manifest: Manifest, root: Path) -> Iterator[tuple[str, Table]]:
    """Derive the tables `photos`, `boxes`, `splits` and `classes`, one at a time to save memory.

    Photo and mask files are looked for below `root`. Any tables with a manifest's columns will do.
    """
    manifest = Manifest(
        manifest.images.reset_index(drop=True), manifest.boxes.reset_index(drop=True)
    )
    photo = _position(_strings(manifest.boxes["image_id"]), _strings(manifest.images["image_id"]))
    yield "photos", _photos(manifest, root, photo)
    yield "boxes", _boxes(manifest, photo)
    table = counts(manifest.images)
    yield "splits", _splits(table)
    yield "classes", _classes(table)
