"""The photos a student learns from: which, with which pseudo-mask, and how much each counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from components.core.errors import InputError
from components.core.files import inside, sha256_file
from components.core.params import Distill
from components.core.seeds import generator
from components.data.manifest import AUTHENTIC, MANIPULATED, Manifest

# What drawing costs where nobody recorded it (BoxPromptIML, arXiv 2511.20359).
BOX_SECONDS, MASK_SECONDS = 7.0, 23 * 60.0


@dataclass(frozen=True)
class Example:
    """One photo to learn from; `mask` is None for an authentic one, whose mask is all zero.

    `width` and `height` are the photo's own, in pixels; `confidence` is the teacher's in the
    pseudo-mask, None for an authentic photo. `pool`: whether it is a photo of `distill.pool`.
    """

    image_id: str
    split: str
    photo: Path
    sha256: str
    width: int
    height: int
    mask: Path | None
    mask_sha256: str | None
    confidence: float | None
    pool: bool = False


def collect(manifest: Manifest, dataset: Path, pseudo: Path, params: Distill) -> list[Example]:
    """The photos to learn from: every authentic one, and each with a mask to learn.

    Paths of the manifest are below the folder `dataset`.

    That mask is the accepted pseudo-mask from the folder `pseudo` (`labels.parquet`, `masks/`), or
    with `supervision: masks` the true one from the data set's folder, which counts in full: the
    upper bound that box supervision is compared with.

    Raises:
        InputError: no labels, a mask that is missing, or nothing to learn from or to select on.
    """
    kept = _kept(manifest, params)
    if params.supervision == "masks":
        drawn = kept[kept["label"] == MANIPULATED].dropna(subset="mask_path")
        masks = {n: inside(dataset, m) for n, m in drawn[["image_id", "mask_path"]].to_numpy()}
        confidence = dict.fromkeys(masks, 1.0)
    else:
        confidence = _accepted(pseudo / "labels.parquet")
        masks = {name: inside(pseudo / "masks", f"{name}.png") for name in confidence}
    examples = []
    for row in kept.to_dict("records"):
        mask = masks.get(row["image_id"]) if row["label"] == MANIPULATED else None
        if mask is None and row["label"] == MANIPULATED:
            continue
        examples.append(
            Example(
                image_id=row["image_id"],
                split=row["split"],
                photo=inside(dataset, row["path"]),
                sha256=row["sha256"],
                width=row["width"],
                height=row["height"],
                mask=mask,
                mask_sha256=_digest(mask) if mask else None,
                confidence=confidence[row["image_id"]] if mask else None,
                pool=bool(row["pool"]),
            )
        )
    _check(examples)
    return examples


def _kept(manifest: Manifest, params: Distill) -> pd.DataFrame:
    """Training and validation photos; of the training photos `share`, by whole source groups.

    A smaller share is part of a larger one of the same seed. The pool, which nobody annotates, is
    there in full.
    """
    images = manifest.images
    pool, val = images["pool"].eq(True), images["split"] == "val"
    train = (images["split"] == "train") & ~pool
    groups = np.array(sorted(images.loc[train, "group"].unique()))
    order = generator(params.seed, "share").permutation(groups)
    chosen = set(order[: max(1, round(params.share * len(order)))])
    return images[val | pool | (train & images["group"].isin(chosen))]


def annotation_hours(manifest: Manifest, examples: list[Example]) -> dict[str, float]:
    """Hours of drawing behind the examples: as boxes (recorded seconds, else 7 s each), as masks.

    A mask is reckoned at 23 minutes a photo.
    """
    masked = [example.image_id for example in examples if example.mask]
    boxes = manifest.boxes[manifest.boxes["image_id"].isin(masked)]
    seconds = boxes["seconds"].fillna(BOX_SECONDS).sum()
    return {"boxes": float(seconds) / 3600, "masks": len(masked) * MASK_SECONDS / 3600}


def _accepted(path: Path) -> dict[str, float]:
    """Photos whose pseudo-mask the teacher stage accepted, with its confidence."""
    try:
        labels = pq.read_table(path, columns=["image_id", "accepted", "confidence"]).to_pandas()
    except FileNotFoundError:
        raise InputError("no such file", where=str(path), hint="run `iml run`") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"not the teacher's labels ({error})", where=str(path)) from None
    labels = labels[labels["accepted"].astype(bool)]
    return dict(zip(labels["image_id"], labels["confidence"].astype(float), strict=True))


def _digest(path: Path) -> str:
    try:
        return sha256_file(path)
    except FileNotFoundError:
        raise InputError("no such mask", where=str(path), hint="run `iml run`") from None


def _check(examples: list[Example]) -> None:
    """Something manipulated to learn from and something manipulated to select on."""
    for split, hint in (
        ("train", "lower pseudo_label.min_confidence or add manipulated photos"),
        ("val", "raise prepare.split.val: the best epoch is chosen on it"),
    ):
        if not any(example.mask for example in examples if example.split == split):
            raise InputError(
                f"no manipulated photo with an accepted pseudo-mask in split {split!r}",
                where="distill",
                hint=hint,
            )


def weigh(examples: list[Example], by_confidence: bool) -> np.ndarray:
    """How much each photo counts in the loss: float32 (N,), 1 without confidences.

    A pseudo-mask counts by the teacher's confidence in it, divided by the training photos' mean, so
    that manipulated photos as a whole count no less against the authentic ones (1 each).

    Raises:
        InputError: a confidence that is no finite number of at least 0, or none above 0.
    """
    weights = np.ones(len(examples))
    if by_confidence:
        confidence = np.array([e.confidence for e in examples], dtype=float)  # None becomes NaN
        masked = np.array([e.mask is not None for e in examples])
        mean = confidence[masked & np.array([e.split == "train" for e in examples])].mean()
        ours = confidence[masked]
        if not np.isfinite(ours).all() or ours.min() < 0 or not mean > 0:
            raise InputError(
                "the teacher's labels contain no usable confidence",
                where="distill",
                hint="run pseudo_label again, or set distill.loss.confidence: false",
            )
        weights[masked] = ours / mean
    return weights.astype(np.float32)


def counts(examples: list[Example]) -> dict[str, int]:
    """Photos per split and label, e.g. `{"train_manipulated": 88, ...}`, and of the pool."""
    annotated = [example for example in examples if not example.pool]
    found = Counter((e.split, MANIPULATED if e.mask else AUTHENTIC) for e in annotated)
    return {
        f"{split}_{label}": found[split, label]
        for split in ("train", "val")
        for label in (MANIPULATED, AUTHENTIC)
    } | {"pool": len(examples) - len(annotated)}
