"""Evaluate a predictor on the rows of a manifest: one row a photo, one block of metrics.

Photos are decoded and measured in threads while the model predicts; nothing but the rows and sums
by source group is kept, so memory does not grow with the number of photos' pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from components.core import images as photos_io
from components.core import metrics as measure
from components.core.errors import InputError
from components.core.files import inside, sha256_bytes
from components.core.params import Evaluate
from components.core.progress import Progress
from components.core.stream import ahead, batches
from components.data.manifest import AUTHENTIC
from components.evaluate.calibration import BinSums, Calibration, reliability
from components.evaluate.summary import summarise
from components.evaluate.thresholds import Above, Sweep, above

Predict = Callable[[Sequence[np.ndarray]], list[np.ndarray]]

IMAGES = pa.schema(
    [
        ("image_id", pa.string()),
        ("group", pa.string()),  # source group, the unit of the bootstrap
        ("source", pa.string()),
        ("kind", pa.string()),  # or null
        ("label", pa.string()),  # authentic | manipulated
        ("f1", pa.float64()),  # manipulated photos with a mask, else null
        ("iou", pa.float64()),
        ("auc", pa.float64()),  # over the photo's pixels; null where the mask covers it all
        ("false_alarm_area", pa.float64()),  # authentic photos: share wrongly marked, else null
        ("score", pa.float64()),  # image-level: mean of the highest 1 % of pixels
        ("area", pa.float64()),  # predicted share of the photo
        ("imdlbenco_f1", pa.float64()),  # that convention: authentic photos count, and score 0
        ("mcc", pa.float64()),  # as f1
        ("true_area", pa.float64()),  # manipulated share of the photo, as f1
    ]
)


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation.

    Attributes:
        images: columns of `IMAGES`, in the order of the manifest's rows.
        metrics: see `summary.summarise`, and `thresholds` (see `thresholds.Sweep.rows`).
    """

    images: pd.DataFrame
    metrics: dict[str, Any]


class _Counted(NamedTuple):
    """A photo's pixels, counted against its truth: `reliability` and `thresholds.above`."""

    bins: np.ndarray
    above: Above


class Loaded(NamedTuple):
    """A manifest row with its photo uint8 (H, W, 3) and its true mask bool (H, W), if known."""

    row: dict[str, Any]
    photo: np.ndarray
    mask: np.ndarray | None


def load(row: dict[str, Any], root: Path) -> Loaded:
    """Read a photo and its truth; raises InputError when either is not what the manifest says.

    An authentic photo's truth is an empty mask; a manipulated one's is None without a mask, or
    with one that marks nothing (which contradicts its label).
    """
    path = inside(root, row["path"])
    # The manifest admitted this many pixels, so a lower default must not refuse them now.
    limit = max(photos_io.MAX_MEGAPIXELS, (row["width"] * row["height"] + 1) / 1e6)
    data = photos_io.read_bytes(path, limit)
    if sha256_bytes(data) != row["sha256"]:
        raise InputError("is not the photo of the manifest", where=str(path), hint="run `iml run`")
    photo = photos_io.decode_photo(data, str(path), limit)
    if row["label"] == AUTHENTIC:
        return Loaded(row, photo, np.zeros(photo.shape[:2], dtype=bool))
    if pd.isna(row["mask_path"]):
        return Loaded(row, photo, None)
    where = inside(root, row["mask_path"])
    mask = photos_io.open_mask(where, limit)
    if mask.shape != photo.shape[:2]:
        sizes = [f"{array.shape[1]}x{array.shape[0]}" for array in (mask, photo)]
        raise InputError(
            f"mask is {sizes[0]}, its photo {sizes[1]}",
            where=str(where),
            hint="masks have the size of their photo",
        )
    return Loaded(row, photo, mask if mask.any() else None)


def load_all(images: pd.DataFrame, root: Path) -> Iterator[Loaded]:
    """Every row's photo and truth, in order, read a few ahead."""
    records: list[Any] = images.to_dict("records")
    return ahead(records, lambda row: load(row, root))


def _predicted(loaded: Iterable[Loaded], predict: Predict) -> Iterator[tuple[Loaded, np.ndarray]]:
    """Predict in batches; yields each photo with its probability map."""
    for batch in batches(loaded, lambda item: item.photo.shape[0] * item.photo.shape[1]):
        yield from zip(batch, predict([item.photo for item in batch]), strict=True)


def _measured(
    pair: tuple[Loaded, np.ndarray], temperature: float
) -> tuple[dict[str, Any], _Counted | None]:
    """One row of `IMAGES`, and the photo's pixels where their truth is known."""
    (row, photo, mask), prob = pair
    try:
        measure.check_probability(prob, photo.shape[:2])
        numbers = measure.image_metrics(prob, mask)
    except ValueError as error:
        raise InputError(
            f"the model's answer is unusable ({error})", where=row["image_id"]
        ) from None
    named = {name: row[name] for name in ("image_id", "source", "kind", "label")}
    group = row["image_id"] if pd.isna(row["group"]) else row["group"]
    row = named | {"group": group} | numbers
    if mask is None:
        return row, None
    return row, _Counted(reliability(prob, mask, temperature), above(prob, mask))


def evaluate(
    predict: Predict,
    images: pd.DataFrame,
    root: Path,
    params: Evaluate,
    progress: Progress | None = None,
    calibration: Calibration | None = None,
) -> Evaluation:
    """Score a model on photos with known labels.

    Args:
        predict: photos uint8 (H, W, 3) to probabilities float32 (H, W) at native size, in order.
        images: rows of a manifest (`components.data.manifest.IMAGES`).
        root: the data set's folder, which paths in the rows are relative to.
        params: number of resamples, confidence, seed.
        progress: called as progress(done, total).
        calibration: what the model brought from its validation photos, if anything.

    Raises:
        InputError: no photos, a photo or mask that is missing, damaged or not the manifest's, or
            a prediction that is not a finite probability map of the photo's size.
    """
    if images.empty:
        raise InputError("no photos to evaluate", where=str(root))
    calibration = calibration or Calibration()
    rows: list[dict[str, Any]] = []
    bins, sweep = BinSums(), Sweep()
    measured = partial(_measured, temperature=calibration.temperature)
    for row, counted in ahead(_predicted(load_all(images, root), predict), measured):
        rows.append(row)
        if counted is not None:
            bins.add(row["group"], counted.bins)
            sweep.add(counted.above)
        if progress:
            progress(len(rows), len(images))
    frame = pd.DataFrame(rows, columns=IMAGES.names)
    metrics = summarise(frame, bins, params, calibration)
    return Evaluation(frame, metrics | {"thresholds": sweep.rows()})
