"""The validation page: one self-contained HTML file that reads offline and in print."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd

from components.core import pages
from components.data.manifest import MANIPULATED, SPLITS, Manifest
from components.validate.report import Report, shown
from components.validate.tables import COORDINATES, LABELS, counts

AREA_EDGES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # shares of the photo
MOST_BOXES = 5  # photos with as many boxes or more stand together


def area_shares(manifest: Manifest) -> list[tuple[str, int]]:
    """Boxes by their share of the photo's area; those without a finite share are left out."""
    sizes = manifest.images.drop_duplicates("image_id").set_index("image_id")[["width", "height"]]
    boxes = manifest.boxes[["image_id", *COORDINATES]].join(sizes, on="image_id")
    with np.errstate(invalid="ignore", over="ignore"):
        area = (boxes["x1"] - boxes["x0"]) * (boxes["y1"] - boxes["y0"])
    share = (area / (boxes["width"] * boxes["height"])).to_numpy(dtype=np.float64, na_value=np.nan)
    tops = [*AREA_EDGES[1:], np.inf]
    found = np.histogram(share[np.isfinite(share)], bins=[AREA_EDGES[0], *tops])[0]
    names = [f"{low * 100:g}-{top * 100:g} %" for low, top in pairwise(AREA_EDGES)]
    return list(zip([*names, f"over {AREA_EDGES[-1] * 100:g} %"], found.tolist(), strict=True))


def boxes_per_photo(manifest: Manifest) -> list[tuple[str, int]]:
    """Manipulated photos by how many boxes they have."""
    drawn = manifest.boxes["image_id"].value_counts()
    photos = manifest.images.loc[manifest.images["label"] == MANIPULATED, "image_id"]
    number = photos.map(drawn).fillna(0).to_numpy(dtype=np.int64)
    found = np.bincount(np.minimum(number, MOST_BOXES), minlength=MOST_BOXES + 1)
    names = [str(n) for n in range(MOST_BOXES)] + [f"{MOST_BOXES} or more"]
    return list(zip(names, found.tolist(), strict=True))


def photos_by_split(images: pd.DataFrame) -> list[tuple[str, int]]:
    """Photos by split and class."""
    number = counts(images).to_numpy(dtype=np.int64)
    return [
        (f"{split}, {label}", int(number[row, column]))
        for column, split in enumerate(SPLITS)
        for row, label in enumerate(LABELS)
    ]


def render(report: Report, manifest: Manifest) -> str:
    """The page of a report, as HTML.

    Names of photos are text from outside: they are escaped, and their control characters shown.
    """
    values = {
        "report": report,
        "groups": manifest.images["group"].nunique(),
        "photos": photos_by_split(manifest.images),
        "area_shares": area_shares(manifest),
        "boxes_per_photo": boxes_per_photo(manifest),
    }
    return pages.render("validation.html", values, {"shown": shown})
