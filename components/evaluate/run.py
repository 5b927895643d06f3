"""Evaluate a predictor on the rows of a manifest: one row a photo, one block of metrics.

Batches of photos are worked on by `components.core.crew`; nothing but the rows and sums by source
group is kept, so memory does not grow with the number of photos' pixels.
"""

from __future__ import annotations

import operator
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa

from components.core import images as photos_io
from components.core import metrics as measure
from components.core.crew import Crew, Sent, Way
from components.core.errors import InputError
from components.core.files import inside, sha256_bytes
from components.core.params import Evaluate
from components.core.progress import Progress
from components.core.seeds import generator
from components.core.stream import ahead, batches
from components.core.sweep import Above, Points, Sweep, above, at_alarms, best
from components.data.manifest import AUTHENTIC, MANIPULATED
from components.evaluate import statistics
from components.evaluate.calibration import (
    BinSums,
    Calibration,
    balanced_accuracy,
    calibration_block,
    reliability,
)

Predict = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
Through = Callable[[Predict, Sequence[np.ndarray]], list[np.ndarray]]  # how photos are predicted
Counted = tuple[dict[str, Any], tuple[np.ndarray, Above] | None]
Block = dict[str, Any]
_MEANS = ("f1", "iou", "mcc", "auc", "false_alarm_area", "imdlbenco_f1")
_PARTS = ("f1", "iou", "auc")  # of a slice of the manipulated photos
_QUANTILES = 5
_CURVE = 8  # every 8th threshold of a sweep is a point of the curves

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
        metrics: `f1`, `iou`, `mcc`, `auc`, `false_alarm_area`, `image_auc`, `balanced_accuracy`,
            `ece` and `imdlbenco_f1`; `f1_best` and `f1_at_1_percent` (see `core.sweep`);
            `calibration` (temperature, threshold, reliability by bin); `groups` by kind; `slices`
            by method, shape and area; counts of photos and source groups (`n_groups_manipulated`:
            of photos with a true mask); `thresholds` (see `core.sweep.Sweep.rows`).
    """

    images: pd.DataFrame
    metrics: dict[str, Any]


class _File(NamedTuple):
    """A photo's or mask's file, and how large it may be."""

    path: str
    megapixels: float
    read: Sent

    @classmethod
    def of(cls, row: Mapping[str, Any], relative: str, root: Path) -> _File:
        path = inside(root, relative)
        # The manifest admitted this many pixels, so a lower default must not refuse them now.
        limit = max(photos_io.MAX_MEGAPIXELS, (row["width"] * row["height"] + 1) / 1e6)
        return cls(str(path), limit, Sent(partial(photos_io.read_bytes, path, limit)))


class Given(NamedTuple):
    """A manifest row with the files of its photo and its true mask, if there is one."""

    row: dict[str, Any]
    photo: _File
    mask: _File | None

    @classmethod
    def of(cls, row: dict[str, Any], root: Path) -> Given:
        """Of files below `root`."""
        none = row["label"] == AUTHENTIC or pd.isna(row["mask_path"])
        mask = None if none else _File.of(row, row["mask_path"], root)
        return cls(row, _File.of(row, row["path"], root), mask)


class Loaded(NamedTuple):
    """A manifest row with its photo uint8 (H, W, 3) and its true mask bool (H, W), if known."""

    row: dict[str, Any]
    photo: np.ndarray
    mask: np.ndarray | None


def load(given: Given) -> Loaded:
    """Read a photo and its truth; raises InputError when either is not what the manifest says.

    An authentic photo's truth is an empty mask; a manipulated one's is None without a mask, or
    with one that marks nothing (which contradicts its label).
    """
    row, (path, limit, read), file = given
    data = read()
    if sha256_bytes(data) != row["sha256"]:
        raise InputError("is not the photo of the manifest", where=path, hint="run `iml run`")
    photo = photos_io.decode_photo(data, path, limit)
    if row["label"] == AUTHENTIC:
        return Loaded(row, photo, np.zeros(photo.shape[:2], dtype=bool))
    if file is None:
        return Loaded(row, photo, None)
    mask = photos_io.decode_mask(file.read(), file.path, limit)
    if mask.shape != photo.shape[:2]:
        sizes = [f"{array.shape[1]}x{array.shape[0]}" for array in (mask, photo)]
        raise InputError(
            f"mask is {sizes[0]}, its photo {sizes[1]}",
            where=file.path,
            hint="masks have the size of their photo",
        )
    return Loaded(row, photo, mask if mask.any() else None)


def load_all(images: pd.DataFrame, root: Path) -> Iterator[Loaded]:
    """Every row's photo and truth, in order, read a few ahead."""
    return ahead(_given(images, root), load)


def _given(images: pd.DataFrame, root: Path) -> Iterator[Given]:
    records: list[Any] = images.to_dict("records")
    return (Given.of(row, root) for row in records)


class Shard(NamedTuple):
    """A batch of photos, and how they are predicted."""

    photos: list[Given]
    through: Through


class Judge:
    """A worker: a model, and the temperature of its calibration."""

    way: Way = "threads"

    def __init__(self, predict: Predict, temperature: float) -> None:
        self._predict, self._temperature = predict, temperature

    def identity(self) -> Any:
        """What figures depend on: of the model and the processor that is its answer to a photo."""
        photo = generator(0, "identity").integers(0, 256, (300, 200, 3), dtype=np.uint8)
        answer = sha256_bytes(self._predict([photo])[0].tobytes())
        return answer, photos_io.decoder(), cv2.__version__, np.__version__

    def work(self, shard: Shard) -> list[Counted]:
        """Of each photo what `_measured` gives."""
        loaded = list(ahead(shard.photos, load))
        maps = shard.through(self._predict, [one.photo for one in loaded])
        pairs = zip(loaded, maps, strict=True)
        return list(ahead(pairs, partial(_measured, temperature=self._temperature)))


def _measured(pair: tuple[Loaded, np.ndarray], temperature: float) -> Counted:
    """One row of `IMAGES`; the photo's `reliability` and `above` where the truth is known."""
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
    return row, (reliability(prob, mask, temperature), above(prob, mask))


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
        calibration: set on the model's validation photos, if at all.

    Raises:
        InputError: no photos, a photo or mask that is missing, damaged or not the manifest's, or
            a prediction that is not a finite probability map of the photo's size.
    """
    passes = [(operator.call, progress)]
    (found,) = evaluate_passes(predict, images, root, params, passes, calibration)
    return found


def evaluate_passes(
    predict: Predict,
    images: pd.DataFrame,
    root: Path,
    params: Evaluate,
    passes: Sequence[tuple[Through, Progress | None]],
    calibration: Calibration | None = None,
) -> Iterator[Evaluation]:
    """`evaluate` once for each pass, all of them on the same workers.

    A model that cannot be sent elsewhere works on this machine.
    """
    if images.empty:
        raise InputError("no photos to evaluate", where=str(root))
    calibration = calibration or Calibration()
    workers: Crew[Shard, list[Counted]] = Crew(
        Judge,
        predict,
        calibration.temperature,
        threads=params.threads,
        here=not _leaves(predict),
    )
    shards = (
        Shard(batch, through)
        for through, _ in passes
        for batch in batches(_given(images, root), lambda one: one.row["width"] * one.row["height"])
    )
    counted = chain.from_iterable(workers.map(shards))
    for _, progress in passes:
        own = islice(counted, len(images))
        yield _collected(own, len(images), params, progress, calibration)


def _leaves(predict: Predict) -> bool:
    """Whether a model can go to another process."""
    try:
        pickle.dumps(predict)
    except (pickle.PicklingError, TypeError, AttributeError, OSError, InputError):
        return False
    return True


def _collected(
    photos: Iterator[Counted],
    count: int,
    params: Evaluate,
    progress: Progress | None,
    calibration: Calibration,
) -> Evaluation:
    """One pass."""
    rows: list[dict[str, Any]] = []
    bins, sweep = BinSums(), Sweep()
    for row, counted in photos:
        rows.append(row)
        if counted is not None:
            bins.add(row["group"], counted[0])
            sweep.add(counted[1], row["group"])
        if progress:
            progress(len(rows), count)
    frame = pd.DataFrame(rows, columns=IMAGES.names)
    metrics = _summarise(frame, bins, sweep, params, calibration)
    return Evaluation(frame, metrics | {"thresholds": sweep.rows(_CURVE)})


def _summarise(
    images: pd.DataFrame, bins: BinSums, sweep: Sweep, params: Evaluate, calibration: Calibration
) -> Block:
    """All metrics, each `{value, low, high, n}`: finite numbers or None throughout.

    Args:
        images: columns of `IMAGES`.
        bins: of the photos whose truth is known.
        sweep: of the same photos.
        params: resamples, confidence, seed.
        calibration: set on the model's validation photos.
    """
    bootstrap = statistics.Bootstrap(params.bootstrap, params.confidence, params.seed)
    groups = images["group"].to_numpy()
    manipulated = (images["label"] == MANIPULATED).to_numpy()
    scores = images["score"].to_numpy()

    def mean(name: str, rows: np.ndarray | slice = slice(None)) -> Block:
        return statistics.mean(images[name].to_numpy()[rows], groups[rows], bootstrap).as_dict()

    block: Block = {name: mean(name) for name in _MEANS}
    count = block["f1"]["n"]
    block["f1_best"] = _operating(best, sweep, count, bootstrap)
    block["f1_at_1_percent"] = _operating(at_alarms, sweep, count, bootstrap)
    block["image_auc"] = statistics.auc(scores, manipulated, groups, bootstrap).as_dict()
    block["balanced_accuracy"] = balanced_accuracy(
        scores, manipulated, groups, calibration.image_threshold, bootstrap
    ).as_dict()
    block |= calibration_block(bins, bootstrap, calibration)
    kinds = images["kind"].where(manipulated)
    block["groups"] = _parts(kinds, mean)
    block["slices"] = {
        "method": _parts(_half(kinds, 0), mean),
        "shape": _parts(_half(kinds, 1), mean),
        "area": _by_area(images["true_area"].where(manipulated), mean),
    }
    block["n_manipulated"] = int(manipulated.sum())
    block["n_authentic"] = int((~manipulated).sum())
    block["n_without_mask"] = int((manipulated & images["f1"].isna().to_numpy()).sum())
    block["n_groups"] = int(images["group"].nunique())
    block["n_groups_manipulated"] = int(images["group"][images["f1"].notna()].nunique())
    block["n_groups_authentic"] = int(images["group"][~manipulated].nunique())
    return block


def _operating(
    choose: Callable[[np.ndarray], Points],
    sweep: Sweep,
    count: int,
    bootstrap: statistics.Bootstrap,
) -> Block:
    """F1 of `count` photos at an operating point, whose threshold each resample chooses again."""
    found = statistics.of_group_sums(
        sweep.by_group(), count, lambda sums: choose(sums).f1, bootstrap
    ).as_dict()
    _, alarms, threshold = (float(part[0]) for part in choose(sweep.total()))
    known = found["value"] is not None
    return found | {
        "threshold": threshold if known else None,
        "false_alarm_area": alarms if known and np.isfinite(alarms) else None,
    }


def _half(kinds: pd.Series, place: int) -> pd.Series:
    """Of kinds such as `splice/free` the method (0) or the shape (1), None where there is none."""

    def half(kind: object) -> str | None:
        parts = kind.split("/") if isinstance(kind, str) else []
        return parts[place] if place < len(parts) else None

    return kinds.map(half)


def _parts(names: pd.Series, mean: Callable[[str, np.ndarray], Block]) -> Block:
    """Metrics of the photos of each name."""
    return {
        name: {metric: mean(metric, (names == name).to_numpy()) for metric in _PARTS}
        for name in sorted(names.dropna().unique())
    }


def _by_area(areas: pd.Series, mean: Callable[[str, np.ndarray], Block]) -> Block:
    """Metrics by fifths of the manipulated photos, the smallest manipulated area first."""
    known = areas.dropna()
    if known.nunique() < _QUANTILES:
        return {}
    edges = np.quantile(known, np.linspace(0, 1, _QUANTILES + 1))
    place = np.searchsorted(edges[1:-1], areas.to_numpy(), side="left")
    found: Block = {}
    for number in range(_QUANTILES):
        rows = (place == number) & areas.notna().to_numpy()
        part: Block = {"from": float(edges[number]), "to": float(edges[number + 1])}
        found[str(number + 1)] = part | {metric: mean(metric, rows) for metric in _PARTS}
    return found
