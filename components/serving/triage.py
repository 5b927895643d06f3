"""The triage page: scored photos to sort, filter, view and tick; one self-contained file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from components.core import images, pages
from components.core.files import write_text
from components.core.stream import ahead
from components.evaluate.pictures import data_uri, thumbnail

PAGE = "triage.html"
SHOWN = 500  # photos of each kind, scored or not; the table has all
_SIDE, _QUALITY = 320, 70  # of a picture: pixels of its longer side, JPEG
_STEPS = 100  # of the threshold's slider
_FACTS = {
    "model": "Model",
    "version": "Version",
    "weights_sha256": "Weights (SHA-256)",
    "made_at": "Scored",
    "program": "Program",
}
_ROW = ("name", "status", "reason", "score", "area", "width", "height", "sha256")


def write(out: Path, table: pd.DataFrame, about: Mapping[str, Any]) -> None:
    """Write the page; its small pictures open the overlays in the same folder.

    Args:
        out: folder of the results.
        table: columns of `components.serving.score.SCORES`, by score.
        about: `source` and the fields of `components.serving.origin.Origin`.
    """
    scored = table[table["score"].notna()]
    others = table[table["score"].isna()]
    shown = pd.concat([scored.head(SHOWN), others.head(SHOWN)])
    shown = shown.astype({"width": "Int32", "height": "Int32"}).astype(object)
    rows = shown.where(shown.notna(), None).to_dict("records")
    values = {
        "facts": {what: about[key] for key, what in _FACTS.items() if about.get(key)},
        "source": about["source"],
        "cards": list(ahead(rows, lambda row: (row, _picture(out, row["overlay"])))),
        "rows": [[row[name] for name in _ROW] for row in rows],
        "columns": _ROW,
        "above": above(scored["score"].to_numpy(float)),
        "n_scored": len(scored),
        "n_others": len(others),
        "left_out": len(table) - len(shown),
    }
    write_text(out / PAGE, pages.render("triage.html", values))


def above(scores: np.ndarray) -> list[int]:
    """How many scores are at or above each step of the slider, from 0 to 1."""
    steps = np.arange(_STEPS + 1) / _STEPS
    return (len(scores) - np.searchsorted(np.sort(scores), steps)).tolist()


def _picture(out: Path, overlay: str | None) -> str | None:
    """An overlay as a small data URI; None where there is none, or no longer one."""
    if overlay is None:
        return None
    try:
        picture = images.open_photo(out / overlay)
    except images.PhotoError:
        return None
    return data_uri(thumbnail(picture, _SIDE), _QUALITY)
