"""The evaluation's page, its page of photos, and the files beside them.

The first names photos by id and SHA-256 and goes into the version's folder; the second shows them
and does not, so that a photo can be erased. Both are self-contained HTML files in which every text
from a data set is escaped. The report is a function of what the evaluation read; what names one
registered version (number, date, commit) is added to a copy of it, by `identified`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import escape

from components.core import pages
from components.core.files import sha256_json, write_json, write_text
from components.core.metrics import THRESHOLD
from components.core.params import Evaluate
from components.core.paths import EVALUATION_PAGE, EVALUATION_PHOTOS
from components.data.manifest import AUTHENTIC, MANIPULATED, write_table
from components.evaluate.calibration import Calibration
from components.evaluate.gallery import Album, Example
from components.evaluate.robustness import Parts, robustness
from components.evaluate.run import IMAGES, Evaluation, Predict, evaluate

EXAMPLES = 4  # photos in each section
_BINS = 20

HEADLINES = (
    ("f1", "F1 at 0.5", "pixels, mean over manipulated photos with a mask"),
    ("f1_best", "F1, best threshold", "optimistic: one threshold for all, chosen on these photos"),
    ("f1_at_1_percent", "F1 at 1 % false alarms", "at the threshold that gives 1 % here"),
    ("iou", "IoU", "pixels, mean over manipulated photos with a mask"),
    ("mcc", "MCC", "Matthews correlation of the pixels, mean over manipulated photos with a mask"),
    ("auc", "Pixel AUC", "within each manipulated photo, then the mean"),
    ("false_alarm_area", "False-alarm area", "share wrongly marked, mean over authentic photos"),
    ("image_auc", "Image AUC", "manipulated against authentic photos, by image score"),
    ("balanced_accuracy", "Balanced accuracy", "photos called right, at the validation threshold"),
    ("ece", "ECE", "calibration error: probability against truth, each photo with equal weight"),
    ("imdlbenco_f1", "F1, IMDL-BenCo convention", "authentic photos count, and score 0"),
)
_TOPS = (0.02, 0.05, 0.1, 0.2, 0.5, 1)  # of an axis that need not reach 1
_LINES = (
    ("threshold", "f1", "F1 by threshold", "#d55e00"),
    ("threshold", "false_alarm_area", "False-alarm area by threshold", "#0072b2"),
    ("recall", "precision", "Precision by recall, pixels", "#009e73"),
)


def digest(images: pd.DataFrame) -> str:
    """SHA-256 that names the photos of a manifest, with their labels and true masks."""
    columns = images[["image_id", "sha256", "label", "mask_sha256"]].sort_values("image_id")
    return sha256_json(columns.astype(object).where(columns.notna(), None).values.tolist())


def pick(images: pd.DataFrame) -> dict[str, list[str]]:
    """Photos worth a look, by section, each once; sections without photos are left out."""
    ranked, alarmed = by_f1(images), by_false_alarm(images)
    start = max(0, (len(ranked) - EXAMPLES) // 2)
    wanted = {
        "Worst": ranked[:EXAMPLES],
        "Worst false alarms": alarmed[:EXAMPLES],
        "Best": ranked[::-1][:EXAMPLES],
        "Median": ranked[start : start + EXAMPLES],
    }
    taken: set[str] = set()
    sections: dict[str, list[str]] = {}
    for title, names in wanted.items():
        sections[title] = [name for name in names if name not in taken]
        taken.update(names)
    return {title: names for title, names in sections.items() if names}


def by_f1(images: pd.DataFrame) -> list[str]:
    """Manipulated photos that have an F1, the lowest first; `image_id` breaks ties."""
    scored = images[(images["label"] == MANIPULATED) & images["f1"].notna()]
    return scored.sort_values(["f1", "image_id"])["image_id"].tolist()


def by_false_alarm(images: pd.DataFrame) -> list[str]:
    """Authentic photos with marked pixels, the largest area first; `image_id` breaks ties."""
    alarms = images[(images["label"] == AUTHENTIC) & (images["area"] > 0)]
    ranked = alarms.sort_values(["area", "image_id"], ascending=[False, True])
    return ranked["image_id"].tolist()


def facts(row: Mapping[str, Any]) -> str:
    """A photo's numbers in words, from its row of `run.IMAGES`."""
    if row["label"] == AUTHENTIC:
        known = f"authentic, {100 * row['area']:.1f} % marked"
    else:
        known = f"F1 {_number(row['f1'])}, IoU {_number(row['iou'])}"
    return f"{known}, score {_number(row['score'])}"


def gallery(evaluation: Evaluation, album: Album, predict: Predict) -> dict[str, list[Example]]:
    """The picked photos of an evaluation with the answers of the same model, by section."""
    sections = pick(evaluation.images)
    drawn = album.draw([n for names in sections.values() for n in names], {"answer": predict})
    rows: Any = evaluation.images.set_index("image_id").to_dict("index")
    hashes = album.photos.images.set_index("image_id")["sha256"]
    return {
        title: [Example(name, facts(rows[name]), drawn[name], hashes[name]) for name in names]
        for title, names in sections.items()
    }


def _tables(metrics: Mapping[str, Any]) -> list[tuple[str, str, list[tuple[str, Any]]]]:
    """Tables of parts of the photos: what by, heading, rows; none that repeats figures."""
    slices = metrics["slices"]
    areas = [(f"{100 * b['from']:.1f} – {100 * b['to']:.1f} %", b) for b in slices["area"].values()]
    every = [
        ("kind of manipulation", "Kind", list(metrics["groups"].items())),
        ("method", "Method", list(slices["method"].items())),
        ("shape", "Shape", list(slices["shape"].items())),
        ("manipulated area, in fifths", "Area", areas),
    ]
    kept = []
    seen: list[list[str]] = []
    for name, column, rows in every:
        figures = sorted(str(block) for _, block in rows)
        # One part is all photos, which the results have; the same parts may go by other names.
        if len(rows) > 1 and figures not in seen:
            seen.append(figures)
            kept.append((name, column, rows))
    return kept


def _lines(rows: list[dict[str, float | None]]) -> list[tuple[Any, ...]]:
    """The threshold curves and the precision-recall curve, as arguments of `charts.line`."""
    found: list[tuple[Any, ...]] = []
    for x, y, title, colour in _LINES:
        points = [
            (row["threshold"], (row[x], value))
            for row in rows
            if row[x] is not None and (value := row[y]) is not None
        ]
        if points:
            line = [point for _, point in points]
            fixed = next((point for threshold, point in points if threshold == THRESHOLD), None)
            highest = max(value for _, value in line)
            top = next(t for t in _TOPS if t >= highest) if y == "false_alarm_area" else 1
            found.append((title, line, fixed, top, x, colour))
    return found


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
    """The page as HTML, without pictures: `about` are facts for its head, `params` for its end."""
    rows = evaluation.images
    scores = {
        label: _histogram(rows.loc[rows["label"] == label, "score"])
        for label in (MANIPULATED, AUTHENTIC)
    }
    values = {
        "about": about,
        "metrics": evaluation.metrics,
        "headlines": HEADLINES,
        "tables": _tables(evaluation.metrics),
        "lines": _lines(evaluation.metrics["thresholds"]),
        "sections": sections,
        "photos": EVALUATION_PHOTOS,
        "scores": scores,
        "f1": _histogram(rows["f1"].dropna()),
        "curves": _curves(evaluation.metrics),
        "params": params,
    }
    return pages.render("evaluation.html", values, {"number": _number})


def render_photos(sections: Mapping[str, list[Example]], about: Mapping[str, str]) -> str:
    """The page of photos as HTML."""
    return pages.render("evaluation_photos.html", {"sections": sections, "about": about})


def identified(page: str, more: Mapping[str, str]) -> str:
    """A report with more facts in its head: of which version, when and from what it was made."""
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>\n" for name, value in more.items()
    )
    return page.replace("</dl>", f"{rows}</dl>", 1)


def produce(
    predict: Predict,
    album: Album,
    params: Evaluate,
    about: Mapping[str, str],
    folder: Path,
    progress: Parts = lambda _: None,
    calibration: Calibration | None = None,
) -> Evaluation:
    """Evaluate a model on an album's photos and write all four files (see `write`).

    The metrics have one block more, `robustness`; `progress` follows its passes too. The page's
    head names the photos by their hash.
    """
    images, root = album.photos.images, album.root
    evaluation = evaluate(predict, images, root, params, progress("evaluate"), calibration)
    evaluation.metrics["robustness"] = robustness(predict, images, root, params, progress)
    sections = gallery(evaluation, album, predict)
    write(folder, evaluation, sections, params, {**about, "Photos (SHA-256)": digest(images)})
    return evaluation


def write(
    folder: Path,
    evaluation: Evaluation,
    sections: Mapping[str, list[Example]],
    params: Evaluate,
    about: Mapping[str, str],
) -> None:
    """Write metrics, table and the two pages; equal input gives equal bytes."""
    write_table(folder / "images.parquet", evaluation.images, IMAGES)
    write_text(folder / EVALUATION_PAGE, render(evaluation, sections, params, about))
    write_text(folder / EVALUATION_PHOTOS, render_photos(sections, about))
    write_json(folder / "metrics.json", evaluation.metrics)
