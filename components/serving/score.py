"""Batch scoring: every photo of a folder or S3 prefix into a table, overlays and a triage page.

Rows are kept in parts of a few photos, each written whole, so an interrupted run continues where it
was; a photo that has changed is scored again. Memory does not grow with the photos' pixels.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from components.core import images, pages
from components.core.errors import InputError
from components.core.files import (
    read_json,
    sha256_bytes,
    write_bytes,
    write_json,
    write_text,
)
from components.core.progress import Progress
from components.core.stream import ahead
from components.data.manifest import read_table, write_table
from components.evaluate.pictures import data_uri, encoded, marked, thumbnail
from components.serving.inference import Limits, Scored, scored
from components.serving.origin import Origin
from components.serving.predictor import Predictor
from components.serving.sources import Item, Source

TABLE, SETTINGS = "scores.parquet", "score.json"
PARTS, OVERLAYS = "parts", "overlays"
SCORED, ABSTAINED, FAILED = "scored", "abstained", "failed"
_PART = 64  # photos a part, the most that a killed run loses
_SIDE = 640  # pixels of an overlay's longer side
PAGE = "triage.html"
SHOWN = 500  # photos of each kind, scored or not; the table has all
_THUMBNAIL = 320  # pixels of a picture's longer side on the page
_QUALITY = {_SIDE: 90, _THUMBNAIL: 70}  # JPEG, by longer side
_STEPS = 100  # of the threshold's slider
_FACTS = {
    "model": "Model",
    "version": "Version",
    "weights_sha256": "Weights (SHA-256)",
    "made_at": "Scored",
    "program": "Program",
}
_CELLS = ("name", "status", "reason", "score", "area", "width", "height", "sha256")

SCORES = pa.schema(
    [
        ("name", pa.string()),  # path below the source
        ("mark", pa.string()),  # changes when the file may have
        ("status", pa.string()),  # scored | abstained | failed
        ("reason", pa.string()),  # why it was not scored, else null
        ("score", pa.float64()),  # how manipulated the photo looks, 0..1; null unless scored
        ("area", pa.float64()),  # share of its pixels above 0.5; null unless scored
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("jpeg_quality", pa.float64()),  # 1..100; null for other files
        ("sha256", pa.string()),  # of the photo's bytes
        ("overlay", pa.string()),  # picture below the output folder; null unless scored
    ]
)


@dataclass(frozen=True)
class Summary:
    """The result of a run: photos in the table by status, and how many of them are new."""

    scored: int
    abstained: int
    failed: int
    new: int


def score(
    source: Source,
    predictor: Predictor,
    out: Path,
    source_name: str,
    origin: Origin,
    limits: Limits,
    progress: Progress | None = None,
) -> Summary:
    """Score every photo of a source that is not scored yet, then write table and triage page.

    Args:
        source: where the photos are.
        predictor: the model.
        out: folder of the results; if it holds some already, the run continues them.
        source_name: of the source, for people.
        origin: of the answers, kept beside them; its time and program are the last run's.
        limits: where to abstain.
        progress: called with photos.

    Raises:
        InputError: no photos, or `out` holds results of another source, model or limits.
    """
    items = source.items()
    if not items:
        raise InputError("no photos in it", where=source_name)
    about = {"source": source_name, **origin.row()}
    _claim(out, {**about, "limits": asdict(limits)})
    done = _finished(out)
    todo = [item for item in items if done.get(item.name) != item.mark]
    finished, number = 0, len(_parts(out))
    found = scored(todo, source.read, predictor, limits, abstain=True)
    rows = ahead(found, lambda one: _row(one, out))
    while part := list(islice(rows, _PART)):
        number += 1
        write_table(out / PARTS / f"{number:06d}.parquet", _frame(part), SCORES)
        finished += len(part)
        if progress:
            progress(finished, len(todo))
    table = _table(out, items)
    write_table(out / TABLE, table, SCORES)
    write_page(out, table, about)
    counts = table["status"].value_counts()
    answered, abstained, failed = (int(counts.get(s, 0)) for s in (SCORED, ABSTAINED, FAILED))
    return Summary(answered, abstained, failed, len(todo))


def _claim(out: Path, settings: dict[str, object]) -> None:
    """Record what the results belong to; raises InputError for a folder with other results."""
    path = out / SETTINGS
    if path.is_file():
        kept = read_json(path)
        same = ("source", "weights_sha256", "limits")
        if not isinstance(kept, dict) or any(kept.get(key) != settings[key] for key in same):
            raise InputError(
                "holds scores of another source, model or limits",
                where=str(out),
                hint="choose another folder",
            )
    (out / PARTS).mkdir(parents=True, exist_ok=True)
    write_json(path, settings)


def _frame(rows: Iterable[dict[str, object]]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=SCORES.names)


def _parts(out: Path) -> list[Path]:
    """The finished parts in their order; the name of an unfinished one begins with a dot."""
    return sorted((out / PARTS).glob("[0-9]*.parquet"))


def _kept(out: Path) -> pd.DataFrame:
    """All rows ever written, the newest of each photo."""
    parts = [read_table(path, SCORES) for path in _parts(out)]
    rows = pd.concat(parts) if parts else _frame([])
    return rows.drop_duplicates("name", keep="last")


def _finished(out: Path) -> dict[str, str]:
    """Mark by name of photos that need not be scored again; failed ones are tried again."""
    rows = _kept(out)
    rows = rows[rows["status"] != FAILED]
    return dict(zip(rows["name"], rows["mark"], strict=True))


def _table(out: Path, items: list[Item]) -> pd.DataFrame:
    """Rows of the photos that the source has now: by score, then those without."""
    rows = _kept(out)
    rows = rows[rows["name"].isin([item.name for item in items])]
    return rows.sort_values(["score", "name"], ascending=[False, True], na_position="last")


def _row(one: Scored[Item], out: Path) -> dict[str, object]:
    """The row of a photo; writes its overlay."""
    row: dict[str, object] = {"name": one.item.name, "mark": one.item.mark}
    if one.photo is None:
        return {**row, "status": FAILED, "reason": one.error}
    row |= {"width": one.photo.shape[1], "height": one.photo.shape[0]}
    row |= {"jpeg_quality": one.quality, "sha256": one.sha256}
    if one.found is None:
        return {**row, "status": ABSTAINED, "reason": one.unsuitable}
    # Named by its path, so that two photos never share one and no name leaves the folder.
    picture = f"{OVERLAYS}/{sha256_bytes(one.item.name.encode())[:32]}.jpg"
    write_bytes(
        out / picture, encoded(marked(one.photo, one.found.probability, _SIDE), _QUALITY[_SIDE])
    )
    numbers = {"score": round(one.found.score, 6), "area": round(one.found.area, 6)}
    return {**row, **numbers, "status": SCORED, "overlay": picture}


def write_page(out: Path, table: pd.DataFrame, about: Mapping[str, Any]) -> None:
    """Write the triage page: photos to sort, filter, view and tick, in one self-contained file.

    Its small pictures open the overlays below `out`. `table` has the columns `SCORES` and is sorted
    by score; `about` has `source` and the fields of `Origin`.
    """
    answered = table[table["score"].notna()]
    others = table[table["score"].isna()]
    shown = pd.concat([answered.head(SHOWN), others.head(SHOWN)])
    shown = shown.astype({"width": "Int32", "height": "Int32"}).astype(object)
    rows = shown.where(shown.notna(), None).to_dict("records")
    values = {
        "facts": {what: about[key] for key, what in _FACTS.items() if about.get(key)},
        "source": about["source"],
        "annotate": f"iml annotate {shlex.quote(str(out))} --into DATASET",
        "cards": list(ahead(rows, lambda row: (row, _picture(out, row["overlay"])))),
        "rows": [[row[name] for name in _CELLS] for row in rows],
        "columns": _CELLS,
        "above": above(answered["score"].to_numpy(float)),
        "n_scored": len(answered),
        "n_others": len(others),
        "left_out": len(table) - len(shown),
    }
    write_text(out / PAGE, pages.render("triage.html", values))


def above(scores: np.ndarray) -> list[int]:
    """How many scores are at or above each step of the slider, from 0 to 1."""
    steps = np.arange(_STEPS + 1) / _STEPS
    return (len(scores) - np.searchsorted(np.sort(scores), steps)).tolist()


def _picture(out: Path, name: str | None) -> str | None:
    """An overlay as a small data URI; None where there is none, or no longer one."""
    if name is None:
        return None
    try:
        picture = images.open_photo(out / name)
    except images.PhotoError:
        return None
    return data_uri(thumbnail(picture, _THUMBNAIL), _QUALITY[_THUMBNAIL])
