"""The evaluation's page: one self-contained HTML file, and the files it stands beside.

The page loads nothing: pictures are data URIs, styles are inline, and a content security policy
forbids the rest. Every text from a data set is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from components import pages
from components.data.manifest import AUTHENTIC, MANIPULATED, write_table
from components.evaluation import pictures
from components.evaluation.calibration import Calibration
from components.evaluation.robustness import Parts, robustness
from components.evaluation.run import (
    IMAGES,
    Evaluation,
    Loaded,
    Predict,
    evaluate,
    load_all,
)
from components.evaluation.stream import batches
from components.files import write_json, write_text
from components.params import Evaluate

EXAMPLES = 4  # photos in each row of the contact sheet
_SIDE = 220  # pixels of a thumbnail
_BINS = 20
SLICES = {"method": "method", "shape": "shape", "area": "manipulated area, in fifths"}

HEADLINES = (
    ("f1", "F1", "pixels, mean over manipulated photos with a mask"),
    ("iou", "IoU", "pixels, mean over manipulated photos with a mask"),
    ("mcc", "MCC", "Matthews correlation of the pixels, mean over manipulated photos with a mask"),
    ("auc", "Pixel AUC", "within each manipulated photo, then the mean"),
    ("false_alarm_area", "False-alarm area", "share wrongly marked, mean over authentic photos"),
    ("image_auc", "Image AUC", "manipulated against authentic photos, by image score"),
    ("balanced_accuracy", "Balanced accuracy", "photos called right, at the validation threshold"),
    ("ece", "Calibration error", "pixels' probability against their truth, every photo alike"),
    ("imdlbenco_f1", "F1, IMDL-BenCo convention", "authentic photos count, and score 0"),
)


@dataclass(frozen=True)
class Example:
    """One photo of the contact sheet: pictures as data URIs, numbers as measured."""

    row: Mapping[str, Any]
    photo: str
    overlay: str
    mask: str | None


def pick(images: pd.DataFrame) -> dict[str, list[str]]:
    """Photos worth a look, by section: worst, median and best F1, largest false alarms.

    No photo is shown twice; sections without photos are left out.
    """
    scored = images[(images["label"] == MANIPULATED) & images["f1"].notna()]
    # image_id breaks ties, so the same numbers choose the same photos.
    ranked = scored.sort_values(["f1", "image_id"])["image_id"].tolist()
    start = max(0, (len(ranked) - EXAMPLES) // 2)
    alarms = images[(images["label"] == AUTHENTIC) & (images["area"] > 0)]
    alarmed = alarms.sort_values(["area", "image_id"], ascending=[False, True])["image_id"].tolist()
    wanted = {
        "Best": ranked[::-1][:EXAMPLES],
        "Median": ranked[start : start + EXAMPLES],
        "Worst": ranked[:EXAMPLES],
        "Worst false alarms": alarmed[:EXAMPLES],
    }
    taken: set[str] = set()
    sections: dict[str, list[str]] = {}
    for title, names in wanted.items():
        sections[title] = [name for name in names if name not in taken]
        taken.update(names)
    return {title: names for title, names in sections.items() if names}


def gallery(
    evaluation: Evaluation, images: pd.DataFrame, root: Path, predict: Predict
) -> dict[str, list[Example]]:
    """The contact sheet: the picked photos, predicted once more and drawn.

    Args:
        evaluation: what `evaluate` gave for these photos.
        images: the manifest's rows.
        root: the data set's folder.
        predict: the same model.
    """
    sections = pick(evaluation.images)
    names = [name for section in sections.values() for name in section]
    measured = evaluation.images.set_index("image_id")
    chosen = images.set_index("image_id", drop=False).loc[names]
    examples: dict[str, Example] = {}
    loaded = load_all(chosen, root)
    for batch in batches(loaded, lambda item: item.photo.shape[0] * item.photo.shape[1]):
        answers = predict([item.photo for item in batch])
        for item, prob in zip(batch, answers, strict=True):
            name = item.row["image_id"]
            examples[name] = _example(item, prob, measured.loc[name].to_dict())
    return {title: [examples[name] for name in section] for title, section in sections.items()}


def _example(item: Loaded, prob: np.ndarray, row: dict[str, Any]) -> Example:
    mask = None if item.mask is None or not item.mask.any() else item.mask
    return Example(
        row=row | {"image_id": item.row["image_id"]},
        photo=_picture(item.photo),
        overlay=_picture(pictures.overlay(item.photo, prob)),
        mask=None if mask is None else _picture(np.uint8(255) * mask),
    )


def _picture(image: np.ndarray) -> str:
    return pictures.data_uri(pictures.thumbnail(image, _SIDE))


def _histogram(values: pd.Series) -> list[float]:
    """Share of the photos in each of `_BINS` equal parts of 0..1."""
    bins = (values.clip(0, 1) * _BINS).astype(int).clip(upper=_BINS - 1)
    counts = bins.value_counts()
    return [float(counts.get(number, 0)) / max(1, len(values)) for number in range(_BINS)]


def _curves(metrics: Mapping[str, Any]) -> dict[str, list[tuple[str, Mapping[str, Any]]]]:
    """F1 by level of each treatment, the untreated photos first."""
    plain = ("none", metrics["f1"])
    return {
        name: [plain, *((level, found["f1"]) for level, found in levels.items())]
        for name, levels in metrics.get("robustness", {}).items()
        if metrics["f1"]["value"] is not None
    }


def _number(value: float | None) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:.3f}"


def render(
    evaluation: Evaluation,
    sections: Mapping[str, list[Example]],
    params: Evaluate,
    about: Mapping[str, str],
) -> str:
    """The page as HTML.

    Args:
        evaluation: what was measured.
        sections: the contact sheet (see `gallery`).
        params: number of resamples and confidence, for "how measured".
        about: facts for the head of the page by name (data set, model, weights).
    """
    rows = evaluation.images
    scores = {
        label: _histogram(rows.loc[rows["label"] == label, "score"])
        for label in (MANIPULATED, AUTHENTIC)
    }
    values = {
        "about": about,
        "metrics": evaluation.metrics,
        "headlines": HEADLINES,
        "slices": SLICES,
        "sections": sections,
        "scores": scores,
        "f1": _histogram(rows["f1"].dropna()),
        "curves": _curves(evaluation.metrics),
        "params": params,
    }
    return pages.render(Path(__file__).with_name("report.html"), values, {"number": _number})


def produce(
    predict: Predict,
    images: pd.DataFrame,
    root: Path,
    params: Evaluate,
    about: Mapping[str, str],
    folder: Path,
    progress: Parts = lambda _: None,
    calibration: Calibration | None = None,
) -> Evaluation:
    """Evaluate a model and write all three files; arguments as of `evaluate` and `write`.

    The metrics have one block more, `robustness` (see there); `progress` follows its passes too.
    """
    evaluation = evaluate(predict, images, root, params, progress("evaluate"), calibration)
    evaluation.metrics["robustness"] = robustness(predict, images, root, params, progress)
    sections = gallery(evaluation, images, root, predict)
    write(folder, evaluation, sections, params, about)
    return evaluation


def write(
    folder: Path,
    evaluation: Evaluation,
    sections: Mapping[str, list[Example]],
    params: Evaluate,
    about: Mapping[str, str],
) -> None:
    """Write `metrics.json`, `images.parquet` and `report.html`; equal input gives equal bytes."""
    write_table(folder / "images.parquet", evaluation.images, IMAGES)
    write_text(folder / "report.html", render(evaluation, sections, params, about))
    write_json(folder / "metrics.json", evaluation.metrics)
