"""Evaluate a predictor on the rows of a manifest: one row a photo, one block of metrics.

Photos are decoded and measured in threads while the model predicts; nothing but the rows is kept,
so memory does not grow with the number of photos' pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from components.data import images as photos_io
from components.data.manifest import AUTHENTIC, MANIPULATED
from components.errors import InputError
from components.evaluation import metrics as measure
from components.evaluation import statistics
from components.evaluation.stream import ahead, batches
from components.files import inside, sha256_bytes
from components.params import Evaluate

Predict = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
Progress = Callable[[int, int], None]

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
    ]
)
_MEANS = ("f1", "iou", "auc", "false_alarm_area", "imdlbenco_f1")


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation.

    Attributes:
        images: columns of `IMAGES`, in the order of the manifest's rows.
        metrics: `f1`, `iou`, `auc`, `false_alarm_area`, `image_auc`, `imdlbenco_f1` as
            `{value, low, high, n}`; `groups` by kind; counts. Finite numbers or None throughout.
    """

    images: pd.DataFrame
    metrics: dict[str, Any]


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
        raise InputError("is not the photo of the manifest", where=str(path), mend="run `iml run`")
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
            mend="masks have the size of their photo",
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


def _measured(pair: tuple[Loaded, np.ndarray]) -> dict[str, Any]:
    """One row of `IMAGES`."""
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
    return named | {"group": group} | numbers


def summarise(images: pd.DataFrame, params: Evaluate) -> dict[str, Any]:
    """The block of metrics of per-photo rows (see `Evaluation.metrics`)."""
    bootstrap = statistics.Bootstrap(params.bootstrap, params.confidence, params.seed)
    groups = images["group"].to_numpy()
    manipulated = (images["label"] == MANIPULATED).to_numpy()

    def mean(name: str, rows: np.ndarray | slice = slice(None)) -> dict[str, float | None]:
        return statistics.mean(images[name].to_numpy()[rows], groups[rows], bootstrap).as_dict()

    block: dict[str, Any] = {name: mean(name) for name in _MEANS}
    block["image_auc"] = statistics.auc(
        images["score"].to_numpy(), manipulated, groups, bootstrap
    ).as_dict()
    kinds = images["kind"][manipulated].dropna()
    block["groups"] = {
        kind: {
            name: mean(name, manipulated & (images["kind"] == kind).to_numpy())
            for name in ("f1", "iou", "auc")
        }
        for kind in sorted(kinds.unique())
    }
    block["n_manipulated"] = int(manipulated.sum())
    block["n_authentic"] = int((~manipulated).sum())
    block["n_without_mask"] = int((manipulated & images["f1"].isna().to_numpy()).sum())
    block["n_groups"] = int(images["group"].nunique())
    return block


def evaluate(
    predict: Predict,
    images: pd.DataFrame,
    root: Path,
    params: Evaluate,
    progress: Progress | None = None,
) -> Evaluation:
    """Score a model on photos with known labels.

    Args:
        predict: photos uint8 (H, W, 3) to probabilities float32 (H, W) at native size, in order.
        images: rows of a manifest (`components.data.manifest.IMAGES`).
        root: the data set's folder, which paths in the rows are relative to.
        params: number of resamples, confidence, seed.
        progress: called as progress(done, total).

    Raises:
        InputError: no photos, a photo or mask that is missing, damaged or not the manifest's, or
            a prediction that is not a finite probability map of the photo's size.
    """
    if images.empty:
        raise InputError("no photos to evaluate", where=str(root))
    rows: list[dict[str, Any]] = []
    loaded = load_all(images, root)
    for row in ahead(_predicted(loaded, predict), _measured):
        rows.append(row)
        if progress:
            progress(len(rows), len(images))
    frame = pd.DataFrame(rows, columns=IMAGES.names)
    return Evaluation(frame, summarise(frame, params))
