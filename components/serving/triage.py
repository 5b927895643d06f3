"""The triage page: the photos that look most manipulated, to sort, filter, view and tick.

What it shows is chosen while the rows stream by, so that a table of any size makes one page.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from components.core import images, pages
from components.core.files import sha256_bytes, write_text
from components.core.stream import ahead
from components.evaluate.pictures import data_uri, encoded, marked, thumbnail
from components.serving.table import Row

PAGE, OVERLAYS = "triage.html", "overlays"
SHOWN = 500  # photos of each kind, scored or not; the table has all
_SIDE = 640  # pixels of an overlay's longer side
_THUMBNAIL = 320  # pixels of a picture's longer side on the page
_QUALITY = {_SIDE: 90, _THUMBNAIL: 70}  # JPEG, by longer side
_STEPS = np.arange(101) / 100  # of the threshold's slider
_FACTS = {
    "model": "Model",
    "version": "Version",
    "weights_sha256": "Weights (SHA-256)",
    "made_at": "Scored",
    "program": "Program",
}
_CELLS = ("name", "status", "reason", "score", "area", "width", "height", "sha256")


class Triage:
    """What the page shows of rows that are added in the order of their names."""

    def __init__(self) -> None:
        self._top: list[Row] = []
        self._others: list[Row] = []
        self._bins = np.zeros(len(_STEPS), np.int64)  # scores between a step and the next
        self._count = 0

    def add(self, rows: Iterable[Row]) -> None:
        """Look at more rows of a table of scores."""
        for row in rows:
            self._count += 1
            if row["score"] is None:
                if len(self._others) < SHOWN:
                    self._others.append(row)
                continue
            self._bins[np.searchsorted(_STEPS, row["score"], "right") - 1] += 1
            self._top.append(row)
            if len(self._top) >= 2 * SHOWN:
                self._top = self.top

    @property
    def top(self) -> list[Row]:
        """The rows with the highest scores, in their order on the page."""
        return sorted(self._top, key=lambda row: (-row["score"], row["name"]))[:SHOWN]

    @property
    def floor(self) -> float:
        """Photos with a lower score are not shown, whatever comes."""
        top = self.top
        return top[-1]["score"] if len(top) == SHOWN else 0.0

    def write(self, out: Path, about: Mapping[str, Any]) -> None:
        """Write the page, one self-contained file, whose small pictures open the overlays in `out`.

        `about` has `source` and the fields of `Origin`.
        """
        rows = [row | {"overlay": overlay(row["name"])} for row in self.top]
        rows += [row | {"overlay": None} for row in self._others]
        scored = int(self._bins.sum())
        values = {
            "facts": {what: about[key] for key, what in _FACTS.items() if about.get(key)},
            "source": about["source"],
            "annotate": f"iml annotate {shlex.quote(str(out))} --into DATASET",
            "cards": list(ahead(rows, lambda row: (row, _picture(out, row["overlay"])))),
            "rows": [[row[name] for name in _CELLS] for row in rows],
            "columns": _CELLS,
            "above": np.cumsum(self._bins[::-1])[::-1].tolist(),  # scores at or above each step
            "n_scored": scored,
            "n_others": self._count - scored,
            "left_out": self._count - len(rows),
        }
        write_text(out / PAGE, pages.render("triage.html", values))


def overlay(name: str) -> str:
    """The picture of a photo, below the results' folder."""
    # Named by its path, so that two photos never share one and no name leaves the folder.
    return f"{OVERLAYS}/{sha256_bytes(name.encode())[:32]}.jpg"


def drawn(photo: np.ndarray, probability: np.ndarray) -> bytes:
    """A photo with what looks manipulated marked, as the file that `overlay` names."""
    return encoded(marked(photo, probability, _SIDE), _QUALITY[_SIDE])


def _picture(out: Path, name: str | None) -> str | None:
    """An overlay as a small data URI; None where there is none, or no longer one."""
    if name is None:
        return None
    try:
        picture = images.open_photo(out / name)
    except images.PhotoError:
        return None
    return data_uri(thumbnail(picture, _THUMBNAIL), _QUALITY[_THUMBNAIL])
