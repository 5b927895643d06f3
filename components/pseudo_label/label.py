"""Pseudo-masks for all photos of a manifest: one soft mask and one row per manipulated photo.

Photos are independent of each other: the result is the same whatever the number of workers and
wherever an earlier run was killed. Photos without boxes are counted and left out.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from components.core.crew import Crew
from components.core.errors import InputError
from components.core.files import sha256_json, write_json
from components.core.images import open_mask, pixels_id
from components.core.params import PseudoLabel
from components.core.progress import Progress
from components.data.dataset import Inside
from components.data.manifest import MANIPULATED, Manifest, read_table, write_table
from components.pseudo_label import prompts, registry
from components.pseudo_label.cache import Cache
from components.pseudo_label.candidates import Identity
from components.pseudo_label.sheet import Case, contact_sheet, pick
from components.pseudo_label.workers import Job, Labelled, Read, crew, run

LABELS = pa.schema(
    [
        ("image_id", pa.string()),
        ("teacher", pa.string()),
        ("teacher_sha256", pa.string()),  # weights; name, algorithm, settings where it has none
        ("prompt_sha256", pa.string()),  # the boxes in the teacher's prompt
        ("predicted_iou", pa.float64()),  # the teacher's own guess, or null
        ("stability", pa.float64()),  # or null
        ("box_fit", pa.float64()),
        ("confidence", pa.float64()),
        ("fallback", pa.string()),  # "box" where the filled box is used instead, or null
        ("accepted", pa.bool_()),
        ("reason", pa.string()),  # why not accepted, or why it fell back; or null
        ("iou_vs_mask", pa.float64()),  # at probability 0.5, where a true mask exists; never used
    ]
)

_log = logging.getLogger(__name__)


def label_dataset(
    manifest: Manifest,
    dataset_root: Path,
    params: PseudoLabel,
    out: Path,
    cache_dir: Path,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Label every manipulated photo that has boxes.

    Writes `masks/<image_id>.png` (8-bit, probability times 255, native size), `labels.parquet`,
    `summary.json` and `contact_sheet.png` below `out`.

    Args:
        manifest: of the photos.
        dataset_root: what the manifest's paths are relative to.
        params: the block `pseudo_label` of params.yaml.
        out: output folder; its `masks/` is emptied first.
        cache_dir: kept between runs, outside the outputs.
        progress: called with (photos done, photos in all).

    Returns:
        The table of labels, columns of `LABELS`, sorted by `image_id`.

    Raises:
        InputError: unknown teacher, unusable checkpoint, a photo that is not what the manifest
            says, a box outside its photo.
    """
    workers, cache = crew(params), Cache(cache_dir)
    teacher = workers.identity
    images = manifest.select(label=MANIPULATED).images.sort_values("image_id", kind="stable")
    jobs = _jobs(images, manifest.boxes, dataset_root, out, teacher)
    shutil.rmtree(out / "masks", ignore_errors=True)
    (out / "masks").mkdir(parents=True)
    done = _all(jobs, workers, cache, progress)
    rows = [_row(job, done[job.image_id], teacher, params) for job in jobs]
    labels = pd.DataFrame(rows, columns=LABELS.names)
    write_table(out / "labels.parquet", labels, LABELS)
    kinds = images.set_index("image_id")["kind"].loc[[job.image_id for job in jobs]].tolist()
    licence = registry.licence(teacher.name, teacher.sha256)
    write_json(out / "summary.json", summary(labels, kinds, len(images), teacher, licence))
    contact_sheet(out / "contact_sheet.png", _cases(jobs, labels))
    return read_table(out / "labels.parquet", LABELS)


def _jobs(
    images: pd.DataFrame, boxes: pd.DataFrame, root: Path, out: Path, teacher: Identity
) -> list[Job]:
    """What there is to do, with the key that names each result."""
    drawn, below, identity = boxes_by_photo(boxes), Inside(root), asdict(teacher)
    jobs = []
    for row in images.to_dict("records"):
        own, true = drawn.get(row["image_id"]), row["mask_path"]
        if own is None:
            continue
        photo = below(row["path"])
        pixels = pixels_id(photo, row["sha256"])
        asked = {"photo": pixels, "boxes": own.tolist(), "teacher": identity}
        jobs.append(
            Job(
                image_id=row["image_id"],
                key=sha256_json(asked),
                photo=photo,
                sha256=row["sha256"],
                pixels=pixels,
                size=(int(row["width"]), int(row["height"])),
                boxes=own,
                target=_below(out / "masks", f"{row['image_id']}.png"),
                true_mask=below(true) if isinstance(true, str) else None,
            )
        )
    return jobs


def boxes_by_photo(boxes: pd.DataFrame) -> dict[str, np.ndarray]:
    """Boxes float64 (N, 4) of each photo, in drawing order, from a manifest's table."""
    if boxes.empty:
        return {}
    ordered = boxes.sort_values("image_id", kind="stable")
    values = ordered[["x0", "y0", "x1", "y1"]].to_numpy(np.float64)
    names, starts = np.unique(ordered["image_id"].to_numpy(str), return_index=True)
    return dict(zip(names.tolist(), np.split(values, starts[1:]), strict=True))


def _below(folder: Path, relative: str) -> Path:
    """A path in a folder of our own making, where no link can lead astray."""
    parts = PurePosixPath(relative)
    if parts.is_absolute() or ".." in parts.parts:
        raise InputError(f"path {relative!r} leaves this folder", where=str(folder))
    return folder / relative


def _all(
    jobs: list[Job],
    workers: Crew[Read, Labelled],
    cache: Cache,
    progress: Progress | None,
) -> dict[str, dict[str, Any]]:
    """The numbers of every photo, by image id; masks are on disk when this returns."""
    done: dict[str, dict[str, Any]] = {}
    misses: list[Job] = []
    warned = False
    for job in jobs:
        entry = cache.get(job.key)
        if entry is None:
            misses.append(job)
            continue
        job.write(entry)
        done[job.image_id] = entry.numbers
        if progress:
            progress(len(done), len(jobs))
    for job, numbers, complaint in run(workers, misses, cache):
        done[job.image_id] = numbers
        if complaint and not warned:
            warned = True
            _log.warning("%s: cache not written (%s), working without it", cache.folder, complaint)
        if progress:
            progress(len(done), len(jobs))
    return done


def _iou(job: Job) -> float | None:
    """IoU of a written pseudo-mask (at 0.5) with the true mask; None if sizes differ or none."""
    if job.true_mask is None:
        return None
    mask, truth = (open_mask(path, job.megapixels) for path in (job.target, job.true_mask))
    if mask.shape != truth.shape or not (mask | truth).any():
        return None
    return float((mask & truth).sum() / (mask | truth).sum())


def _row(
    job: Job, numbers: dict[str, Any], teacher: Identity, params: PseudoLabel
) -> dict[str, Any]:
    """One row of `LABELS`."""
    low = numbers["confidence"] < params.min_confidence
    doubt = f"confidence {numbers['confidence']:.3f} is below {params.min_confidence:g}"
    reasons = [text for text in (doubt if low else None, numbers["reason"]) if text]
    width, height = job.size
    prompt = prompts.expand(job.boxes, teacher.margin, width, height)
    return {
        **numbers,
        "image_id": job.image_id,
        "teacher": teacher.name,
        "teacher_sha256": teacher.sha256,
        "prompt_sha256": prompts.prompt_sha256(prompt),
        "accepted": not low,
        "reason": "; ".join(reasons) or None,
        "iou_vs_mask": _iou(job),
    }


def _block(labels: pd.DataFrame) -> dict[str, float | int | None]:
    """Figures of some rows: finite numbers, or None where there is nothing to count."""

    def mean(values: Iterable[Any]) -> float | None:
        known = [float(value) for value in values if pd.notna(value)]
        return sum(known) / len(known) if known else None

    return {
        "n": len(labels),
        "mean_confidence": mean(labels["confidence"]),
        "accepted_share": mean(labels["accepted"]),
        "fallback_share": mean(labels["fallback"].notna()),
        "mean_iou_vs_mask": mean(labels["iou_vs_mask"]),
        "n_with_mask": int(labels["iou_vs_mask"].notna().sum()),
    }


def summary(
    labels: pd.DataFrame,
    kinds: list[Any],
    manipulated: int,
    teacher: Identity,
    licence: str | None,
) -> dict[str, Any]:
    """The contents of summary.json: all photos, and by kind of manipulation."""
    names = [str(kind) if pd.notna(kind) else "unknown" for kind in kinds]
    return {
        "teacher": teacher.name,
        "teacher_sha256": teacher.sha256,
        "teacher_licence": licence,
        "without_box": manipulated - len(labels),
        **_block(labels),
        "kinds": {
            name: _block(labels[[other == name for other in names]]) for name in sorted({*names})
        },
    }


def _cases(jobs: list[Job], labels: pd.DataFrame) -> list[Case]:
    """What the contact sheet shows: best, median and worst photos."""
    by_id = {job.image_id: job for job in jobs}
    cases = []
    for section, image_id, figure in pick(labels):
        job = by_id[image_id]
        files = (job.photo, job.boxes, job.target, job.true_mask)
        cases.append(Case(section, image_id, figure, job.megapixels, *files))
    return cases
