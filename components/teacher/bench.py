"""How good are the teachers' masks? Mean IoU with true masks, boxes loosened on purpose.

A measurement only: no threshold of the teachers may be set by what comes out here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from components.data.boxes import component_boxes, loosen
from components.data.formats.record import Record
from components.data.formats.registry import read
from components.data.images import open_mask, open_photo
from components.data.manifest import MANIPULATED
from components.evaluation.statistics import Bootstrap, mean
from components.params import PseudoLabel
from components.seeds import generator
from components.teacher import checkpoints
from components.teacher.candidates import Teacher
from components.teacher.jobs import pseudo_mask
from components.teacher.registry import TEACHERS, build

GROUPS = ("all", "free", "geometric")
_SEED = 7
_BOOTSTRAP = Bootstrap(resamples=1000, confidence=0.95, seed=_SEED)


def available(params: PseudoLabel) -> list[str]:
    """The teachers that can work now: weight-free, and those whose checkpoint is on disk."""
    return [
        name
        for name in TEACHERS
        if name not in checkpoints.CHECKPOINTS
        or checkpoints.on_disk(name)
        or (name == params.teacher and params.checkpoint)
    ]


def bench_teacher(
    data: Path,
    params: PseudoLabel,
    jitter: list[float],
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Mean IoU of every available teacher with true masks.

    Args:
        data: any readable data set with masks.
        params: the block `pseudo_label`; its margin and threads hold for every teacher.
        jitter: shares by which each box side is loosened at most, measured one after another.
        limit: so many photos, drawn with a fixed seed; all by default.
        progress: called with (predictions done, in all).

    Returns:
        {"photos": n, "jitter": {"0.1": {teacher: {"all" | "free" | "geometric":
        {"value", "low", "high", "n"}}}}}; 95 % intervals over source groups.

    Raises:
        InputError: nothing readable there, or an unusable photo.
    """
    records = _sample([r for r in read(data).records if r.label == MANIPULATED and r.mask], limit)
    names = available(params)
    teachers = [build(params.model_copy(update={"teacher": name})) for name in names]
    done, total = 0, len(records) * len(teachers) * len(jitter)
    ious: dict[tuple[float, str], list[float]] = {(j, name): [] for j in jitter for name in names}
    for record in records:
        photo, truth = open_photo(record.photo), open_mask(str(record.mask))
        for loose in jitter:
            boxes = _boxes(truth, loose, record.name)
            for teacher in teachers:
                ious[loose, teacher.name].append(_iou(teacher, photo, boxes, truth))
                done += 1
                if progress:
                    progress(done, total)
    return {
        "photos": len(records),
        "jitter": {
            f"{loose:g}": {name: _figures(ious[loose, name], records) for name in names}
            for loose in jitter
        },
    }


def _sample(records: list[Record], limit: int | None) -> list[Record]:
    """At most `limit` records, the same ones every time."""
    records = sorted(records, key=lambda record: record.name)
    if limit is None or limit >= len(records):
        return records
    drawn = generator(_SEED, "bench-teacher").choice(len(records), limit, replace=False)
    return [records[index] for index in sorted(drawn.tolist())]


def _boxes(truth: np.ndarray, jitter: float, name: str) -> np.ndarray:
    """Coarse boxes from a mask: float64 (N, 4), one per connected component."""
    tight = component_boxes(truth)
    height, width = truth.shape
    return loosen(tight, width, height, jitter, _SEED, name)


def _iou(teacher: Teacher, photo: np.ndarray, boxes: np.ndarray, truth: np.ndarray) -> float:
    """IoU of the pseudo-mask at 0.5; NaN where the mask is empty or of another size."""
    if not len(boxes) or photo.shape[:2] != truth.shape:
        return float("nan")
    mask = pseudo_mask(teacher, photo, boxes).mask > 127
    return float((mask & truth).sum() / (mask | truth).sum())


def _figures(values: list[float], records: list[Record]) -> dict[str, Any]:
    """Mean and interval for all photos, and for free and geometric shapes apart."""
    sources = ["+".join(record.origins) or record.name for record in records]
    figures = {}
    for group in GROUPS:
        keep = [
            index
            for index, record in enumerate(records)
            if group == "all" or (record.kind or "").endswith(f"/{group}")
        ]
        figures[group] = mean(
            [values[i] for i in keep], [sources[i] for i in keep], _BOOTSTRAP
        ).as_dict()
    return figures
