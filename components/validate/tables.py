"""The numbers that the expectations examine, derived from a manifest in vectorised passes.

Four tables: one row per photo, per box, per split and per class. A number is null where it does not
apply to the row - its photo is unknown, say, or a more basic check has failed already - and Great
Expectations leaves null values out, so that each fault is reported once.
Columns are float64 or strings: its comparisons are vectorised for these and slow for other types.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
# What the checks and the page need of a manifest; the rest costs time and memory.
IMAGES_READ = (*REQUIRED, "pool", "mask_path", "mask_width", "mask_height")
BOXES_READ = ("image_id", *COORDINATES)
# COCO keeps corner and size: their float sum may pass the photo's edge by a rounding error.
EDGE_TOLERANCE = 0.01  # pixels
_DIGITS = 64  # of a SHA-256 in hex
_MIXER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 by the golden ratio, odd


class Rows(NamedTuple):
    """Which rows of a manifest belong together; see `related`."""

    photos: np.ndarray  # per photo, the first row with its id; -1 where it has none
    groups: np.ndarray  # per photo, the first row of its group; -1 where it has none
    boxes: np.ndarray  # per box, the first row of its photo; -1 where there is none

    def drawn(self) -> np.ndarray:
        """Boxes of each photo, by its id; 0 where it has none."""
        known = self.boxes[self.boxes >= 0]
        return np.append(np.bincount(known, minlength=len(self.photos)), 0)[self.photos]


class Table(NamedTuple):
    """Columns to judge (index 0..n-1), and a name per row: image id, split or class."""

    frame: pd.DataFrame
    ids: pd.Series


def related(manifest: Manifest) -> Rows:
    """Look up ids and groups of a manifest once: each takes a pass over a million strings."""
    ids, drawn = (strings(table["image_id"]) for table in (manifest.images, manifest.boxes))
    rows = first(pa.chunked_array([*_chunks(ids), *_chunks(drawn)], pa.large_string()))
    boxes = np.where(rows[len(ids) :] < len(ids), rows[len(ids) :], -1)
    return Rows(rows[: len(ids)], first(strings(manifest.images["group"])), boxes)


def strings(values: pd.Series) -> pa.Array:
    """The same strings in Arrow, without a copy where pandas keeps them there already."""
    return pa.array(values, from_pandas=True).cast(pa.large_string())


def first(values: pa.Array) -> np.ndarray:
    """Index of the first of each value's equals, int32; -1 for null: one pass over the strings."""
    # Arrow's hash table needs a fifth of the memory of one over Python strings, and is given back.
    encoded = pc.dictionary_encode(values)
    codes = pa.chunked_array([chunk.indices for chunk in _chunks(encoded)], pa.int32())
    rows = pc.fill_null(codes, -1).to_numpy()
    found = np.zeros(len(rows) + 1, np.int32)
    found[rows[::-1]] = np.arange(len(rows), dtype=np.int32)[::-1]  # the last one stays
    found[-1] = -1
    del encoded, codes
    pa.default_memory_pool().release_unused()
    return found[rows]


def _chunks(values: pa.Array | pa.ChunkedArray) -> list[pa.Array]:
    return values.chunks if isinstance(values, pa.ChunkedArray) else [values]


def _first_digest(values: pa.Array) -> np.ndarray:
    """As `first`; for SHA-256 in hex with less memory: few have equal ones."""
    words = [_words(chunk) for chunk in _chunks(values)]
    if any(word is None for word in words):
        return first(values)
    suspects = _repeats(np.concatenate([_mixed(word.T) for word in words if word is not None]))
    found = np.arange(len(values), dtype=np.int32)
    found[suspects] = suspects[first(values.take(pa.array(suspects)))]
    return found


def _words(values: pa.Array) -> np.ndarray | None:
    """Strings of 64 bytes as uint64 (N, 8), without a copy; None where one is null or another."""
    if values.null_count or not len(values):
        return None
    offsets = np.frombuffer(values.buffers()[1], np.int64)[values.offset :][: len(values) + 1]
    if (np.diff(offsets) != _DIGITS).any():
        return None
    data = np.frombuffer(values.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
    return data.view(np.uint64).reshape(len(values), -1)


def _mixed(columns: Iterable[np.ndarray]) -> np.ndarray:
    """A hash of each row of uint64 columns."""
    hashes: Any = np.uint64(0)
    for column in columns:
        hashes = (hashes ^ column) * _MIXER
        hashes ^= hashes >> np.uint64(32)
    return np.asarray(hashes, np.uint64)


def _repeats(hashes: np.ndarray) -> np.ndarray:
    """The rows whose hash occurs more than once: the few to compare exactly."""
    return np.flatnonzero(pd.Series(hashes).duplicated(keep=False).to_numpy())


def _codes(values: pd.Series, known: Sequence[str]) -> np.ndarray:
    """Index of each value among the known ones; -1 for others."""
    among = pa.array(known, pa.large_string())
    found = pc.index_in(strings(values), value_set=among, skip_nulls=True)
    return pc.fill_null(found, -1).to_numpy(zero_copy_only=False)


def _only(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The values at these rows, NaN elsewhere."""
    return np.where(rows, values, np.nan)


def numbers(values: pd.Series) -> np.ndarray:
    """As float64, NaN for null."""
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
        absent += numbers(images[side]) < 1
    return absent


def _listing(root: Path, folder: str) -> pa.Array:
    """Names of the files in a folder below `root`; none where it is absent or leaves the root."""
    try:
        with os.scandir(inside(root, folder)) as entries:
            names = [entry.name for entry in entries if entry.is_file()]
    except (InputError, OSError):
        names = []
    return pa.array([n if n.isascii() else printable(n) for n in names], pa.large_string())


def missing(root: Path, paths: pa.Array) -> np.ndarray:
    """Which paths name no file below `root`: one listing per folder, not one look-up per file.

    Paths are relative, with forward slashes, or null where there is none to look for. Returns bool
    (N,): True where there is a path and it names no file, or leaves the root.
    """
    of_folder = first(pc.replace_substring_regex(paths, "[^/]*$", ""))
    order = np.argsort(of_folder, kind="stable")
    ordered = paths.take(pa.array(order))
    heads = of_folder[order]
    edges = [*np.flatnonzero(np.diff(heads, prepend=-2)), len(order)]
    absent = np.zeros(len(paths), dtype=bool)
    for start, stop in itertools.pairwise(edges):
        if (row := heads[start]) >= 0:
            folder = re.sub("[^/]*$", "", paths[int(row)].as_py())
            names = pc.utf8_slice_codeunits(ordered.slice(start, stop - start), len(folder))
            found = pc.is_in(names, value_set=_listing(root, folder))
            absent[order[start:stop]] = ~found.to_numpy(zero_copy_only=False)
    return absent


def _mask_offset(images: pd.DataFrame) -> np.ndarray:
    """Largest difference between the sides of photo and mask in pixels; NaN without a mask."""
    across = np.abs(numbers(images["mask_width"].fillna(0)) - numbers(images["width"]))
    down = np.abs(numbers(images["mask_height"].fillna(0)) - numbers(images["height"]))
    return _only(np.fmax(across, down), images["mask_path"].notna().to_numpy())


def _content(
    images: pd.DataFrame, rows: np.ndarray, labels: np.ndarray, splits: np.ndarray
) -> dict[str, np.ndarray]:
    """Per photo, the number of labels, of splits and of photos among files with its bytes."""
    same = _first_digest(strings(images["sha256"]))
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


def _photos(images: pd.DataFrame, root: Path, related: Rows) -> Table:
    """Judge photos."""
    rows = related.photos
    drawn = _only(related.drawn(), rows >= 0)
    labels, splits = _codes(images["label"], LABELS), _codes(images["split"], SPLITS)
    manipulated, test = labels == LABELS.index(MANIPULATED), splits == SPLITS.index("test")
    absent = missing(root, strings(images["path"])).astype(np.float64)
    absent += missing(root, strings(images["mask_path"]))
    columns = {
        "missing_fields": _missing_fields(images),
        "photo": _only(rows, rows >= 0),
        "label": images["label"],
        "split": images["split"],
        "missing_files": absent,
        "mask_offset": _mask_offset(images),
        **_content(images, rows, labels, splits),
        "group_splits": _distinct(related.groups, splits, len(SPLITS)),
        "boxes_authentic": _only(drawn, labels == LABELS.index(AUTHENTIC)),
        "boxes_learned": _only(drawn, manipulated & (splits >= 0) & ~test),
        "boxes_tested": _only(drawn, manipulated & test),
    }
    return Table(pd.DataFrame(columns, copy=False), images["image_id"])


def _repeated(corners: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """1 where another box of the same photo has the same corners, else 0."""
    columns = ((column + 0.0).view(np.uint64) for column in corners.T)  # -0 is 0
    suspects = _repeats(_mixed(itertools.chain([photo.astype(np.uint64)], columns)))
    repeated = np.zeros(len(corners))
    exact = pd.DataFrame(corners[suspects]).assign(photo=photo[suspects])
    repeated[suspects] = exact.duplicated(keep=False)
    return repeated


def _outside(images: pd.DataFrame, corners: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """How far each box sticks out of its photo in pixels, 0 or less inside."""
    size = [numbers(images[side])[photo] for side in ("width", "height")]
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
    whole = numbers(images["width"] * images["height"])[photo]
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
    """Number of photos outside the pool, a row per known label and a column per known split."""
    labels, splits = _codes(images["label"], LABELS), _codes(images["split"], SPLITS)
    known = (labels >= 0) & (splits >= 0) & ~images["pool"].to_numpy(dtype=bool)
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


def derive(manifest: Manifest, root: Path, rows: Rows) -> Iterator[tuple[str, Table]]:
    """Derive the tables `photos`, `boxes`, `splits` and `classes`, one at a time to save memory.

    Photo and mask files are looked for below `root`; `rows` are the manifest's (`related`).
    Any tables with a manifest's columns will do.
    """
    manifest = Manifest(
        manifest.images.reset_index(drop=True), manifest.boxes.reset_index(drop=True)
    )
    yield "photos", _photos(manifest.images, root, rows)
    yield "boxes", _boxes(manifest, rows.boxes)
    table = counts(manifest.images)
    yield "splits", _splits(table)
    yield "classes", _classes(table)
