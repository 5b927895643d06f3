"""How good are the teachers' masks? Mean IoU with true masks, boxes loosened on purpose.

A measurement only: no threshold of the teachers may be set by what comes out here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from components.core.images import MAX_MEGAPIXELS, open_mask, open_photo, save_grey
from components.core.params import PseudoLabel
from components.core.progress import Progress
from components.core.seeds import generator
from components.data import scan
from components.data.boxes import component_boxes, loosen
from components.data.manifest import MANIPULATED
from components.evaluate.statistics import Bootstrap, mean
from components.ingest.formats.record import Record
from components.ingest.formats.registry import read
from components.pseudo_label.candidates import Teacher
from components.pseudo_label.quality import pseudo_mask
from components.pseudo_label.registry import build, specs
from components.pseudo_label.sheet import Case, contact_sheet, pick
from research.sam_lite.calibration import calibration, picture

GROUPS = ("all", "free", "geometric")
CALIBRATION, SHEET, ROWS = "calibration.png", "contact_sheet.png", "masks.parquet"
_SEED = 7
_BOOTSTRAP = Bootstrap(resamples=1000, confidence=0.95, seed=_SEED)


def available(params: PseudoLabel) -> list[str]:
    """The teachers that can work now: weight-free, and those whose checkpoint is on disk."""
    return [
        spec.name
        for spec in specs().values()
        if spec.weights is None
        or spec.weights.on_disk()
        or (spec.name == params.teacher and params.checkpoint)
    ]


def pairs(data: Path, limit: int | None) -> list[Record]:
    """The manipulated photos with masks; at most `limit`, the same ones every time."""
    found = [r for r in read(data).records if r.label == MANIPULATED and r.mask]
    records = sorted(found, key=lambda record: record.name)
    if limit is None or limit >= len(records):
        return records
    drawn = generator(_SEED, "bench-teacher").choice(len(records), limit, replace=False)
    return [records[index] for index in sorted(drawn.tolist())]


def boxes_of(truth: np.ndarray, jitter: float, name: str) -> np.ndarray:
    """Coarse boxes from a mask: float64 (N, 4), one per connected component."""
    height, width = truth.shape
    return loosen(component_boxes(truth), width, height, jitter, _SEED, name)


def bench_teacher(
    data: Path,
    params: PseudoLabel,
    jitter: list[float],
    limit: int | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Mean IoU of every available teacher with true masks.

    Args:
        data: any readable data set with masks.
        params: the block `pseudo_label`; its margin and threads hold for every teacher.
        jitter: shares by which each box side is loosened at most, measured one after another.
        limit: so many photos, drawn with a fixed seed; all by default.
        out: a folder for one row a mask (`masks.parquet`), and for the pictures of the teacher
            that `params` names at the first jitter: confidence against true IoU, and a contact
            sheet of the best, median and worst masks.
        progress: called with (photos done, in all).

    Returns:
        {"photos": n, "jitter": {"0.1": {teacher: {"all" | "free" | "geometric":
        {"value", "low", "high", "n"}, "fallback_share", "calibration": rows of mean confidence
        and mean IoU in ten equally filled bins}}}}; 95 % intervals over source groups.

    Raises:
        InputError: nothing readable there, or an unusable photo.
    """
    records = pairs(data, limit)
    names = available(params)
    teachers = [build(params.model_copy(update={"teacher": name})) for name in names]
    found = scan.run(lambda record: _rows(record, teachers, jitter), records, progress)
    rows = pd.DataFrame([row for photo in found for row in photo])
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        rows.to_parquet(out / ROWS)
        chosen = teachers[names.index(params.teacher)]
        _pictures(out, rows[rows["jitter"] == jitter[0]], chosen, records, jitter[0])
    return {
        "photos": len(records),
        "jitter": {
            f"{loose:g}": {
                name: _figures(rows[(rows["jitter"] == loose) & (rows["teacher"] == name)])
                for name in names
            }
            for loose in jitter
        },
    }


def _rows(record: Record, teachers: list[Teacher], jitter: list[float]) -> list[dict[str, Any]]:
    """One row for each teacher and jitter; IoU is NaN where mask and photo differ in size."""
    photo, truth = open_photo(record.photo), open_mask(str(record.mask))
    rows = []
    for loose in jitter:
        boxes = boxes_of(truth, loose, record.name)
        usable = len(boxes) > 0 and photo.shape[:2] == truth.shape
        for teacher in teachers:
            row: dict[str, Any] = {
                "name": record.name,
                "kind": record.kind or "",
                "source": "+".join(record.origins) or record.name,
                "jitter": loose,
                "teacher": teacher.name,
                "iou": np.nan,
                "confidence": np.nan,
                "fallback": None,
            }
            if usable:
                made = pseudo_mask(teacher, photo, boxes)
                row["iou"] = _iou(made.mask > 127, truth)
                row["confidence"], row["fallback"] = made.confidence, made.fallback
            rows.append(row)
    return rows


def _iou(mask: np.ndarray, truth: np.ndarray) -> float:
    return float((mask & truth).sum() / (mask | truth).sum())


def _figures(rows: pd.DataFrame) -> dict[str, Any]:
    """Mean and interval for all photos, and for free and geometric shapes apart."""
    figures: dict[str, Any] = {}
    for group in GROUPS:
        some = rows if group == "all" else rows[rows["kind"].str.endswith(f"/{group}")]
        figures[group] = mean(some["iou"].tolist(), some["source"].tolist(), _BOOTSTRAP).as_dict()
    figures["fallback_share"] = float(rows["fallback"].notna().mean())
    figures["calibration"] = calibration(rows)
    return figures


def _pictures(
    out: Path, rows: pd.DataFrame, teacher: Teacher, records: list[Record], jitter: float
) -> None:
    own = rows[rows["teacher"] == teacher.name]
    picture(out / CALIBRATION, own, f"{teacher.name}, boxes loosened by up to {jitter:.0%}")
    by_name = {record.name: record for record in records}
    ranked = own.rename(columns={"name": "image_id", "iou": "iou_vs_mask"})
    cases = []
    for number, (section, name, figure) in enumerate(pick(ranked)):
        record = by_name[name]
        photo, truth = open_photo(record.photo), open_mask(str(record.mask))
        boxes = boxes_of(truth, jitter, name)
        mask = out / "sheet" / f"{number}.png"
        save_grey(mask, pseudo_mask(teacher, photo, boxes).mask)
        about = (section, name, figure, MAX_MEGAPIXELS)
        cases.append(Case(*about, record.photo, boxes, mask, record.mask))
    contact_sheet(out / SHEET, cases)
