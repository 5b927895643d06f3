"""One look at a data set: what its index and files say of every photo, and its boxes.

This is the slow part of a manifest, and it depends on the data set alone: neither on other data
sets nor on how photos are grouped and split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from components.core.errors import InputError
from components.core.files import read_json, write_json
from components.core.params import Prepare
from components.core.progress import Progress
from components.data import dataset as datasets
from components.data.boxes import loosen
from components.data.manifest import BOXES, read_table, typed, write_table
from components.data.scan import Job, Quarantined, Scan, scan

PHOTOS, DRAWN, ABOUT = "photos.parquet", "boxes.parquet", "about.json"
# As the columns of the same names in `components.data.manifest.IMAGES`, and two of its own.
INDEX = pa.schema(
    [
        ("image_id", pa.string()),
        ("path", pa.string()),
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("label", pa.string()),
        ("mask_path", pa.string()),
        ("mask_sha256", pa.string()),
        ("mask_width", pa.int32()),
        ("mask_height", pa.int32()),
        ("stated", pa.string()),  # the split that the data set states, or null
        ("keys", pa.list_(pa.string())),  # photos that share one stay in one split
        ("source", pa.string()),
        ("kind", pa.string()),
        ("phash", pa.string()),
        ("n_boxes", pa.int32()),
    ]
)


@dataclass(frozen=True)
class Indexed:
    """What was found in a data set's folder.

    Attributes:
        licence: of the data set.
        images: columns of `INDEX`, sorted by `image_id`; paths are below the folder.
        boxes: columns of `BOXES`, sorted by `image_id`, in drawing order within an image.
        quarantine: photos that cannot be used, which are in neither table.
    """

    licence: str
    images: pd.DataFrame
    boxes: pd.DataFrame
    quarantine: list[Quarantined]


def write(folder: Path, found: Indexed) -> None:
    """Write both tables, the licence and what is in quarantine into a folder."""
    write_table(folder / PHOTOS, found.images, INDEX)
    write_table(folder / DRAWN, found.boxes, BOXES)
    about = {"licence": found.licence, "quarantined": [list(row) for row in found.quarantine]}
    write_json(folder / ABOUT, about)


def read(folder: Path) -> Indexed:
    """What `write` wrote; raises InputError where it is not there."""
    about = read_json(folder / ABOUT)
    return Indexed(
        about["licence"],
        read_table(folder / PHOTOS, INDEX),
        read_table(folder / DRAWN, BOXES),
        [Quarantined(*row) for row in about["quarantined"]],
    )


def index(root: Path, params: Prepare, progress: Progress | None = None) -> Indexed:
    """Look at every file of a data set's folder and draw the boxes that are simulated.

    Runs on all cores; equal files give equal tables.

    Raises:
        InputError: the folder is no usable data set.
    """
    dataset = datasets.load(root)
    rows = sorted(dataset.images, key=lambda row: row["file_name"])
    jobs = _jobs(dataset, rows, params.max_megapixels)
    scans = scan(jobs, len(rows), params.max_megapixels, progress)
    good, quarantine = [], []
    for row, seen in zip(rows, scans, strict=True):
        if params.names == "hash" and not row["file_name"].startswith(seen.sha256):
            raise InputError(
                "prepare.names is hash, and photos have names of their own",
                where=str(root),
                hint="import the folder under another name: a photo is then named by its SHA-256",
            )
        if seen.problem is None:
            good.append((row, seen))
        else:
            quarantine.append(Quarantined(row["file_name"], seen.problem))
    annotations = [] if dataset.boxes == "simulate" else dataset.annotations
    boxes = pd.concat([_annotated(good, annotations), _simulated(good, params)], ignore_index=True)
    boxes = typed(boxes.sort_values("image_id", kind="stable", ignore_index=True), BOXES)
    annotations.clear()  # in the table now; those of a million photos take 0.2 GB
    return Indexed(dataset.licence, _images(dataset, good, boxes), boxes, quarantine)


def _jobs(dataset: datasets.Dataset, rows: list[dict[str, Any]], limit: float) -> Iterator[Job]:
    """What to look at; text, not `Path`, which takes a tenth of a second more for 10,000 photos."""
    drawn, folder = dataset.drawn(), f"{dataset.root}/"
    for row in rows:
        name = row["file_name"]
        mask = row.get("mask") and folder + row["mask"]
        photo = f"{folder}{datasets.PHOTOS}/{name}"
        yield Job.of(name, photo, mask, row["id"] in drawn, limit)


def _simulated(good: list[tuple[dict[str, Any], Scan]], params: Prepare) -> pd.DataFrame:
    """Boxes drawn from the masks whose components were requested."""
    parts, names = [np.zeros((0, 4))], []
    for row, seen in good:
        if seen.mask is None or seen.mask.components is None:
            continue
        name = row["file_name"]
        tight = seen.mask.components
        parts.append(loosen(tight, *seen.size, params.jitter, params.seed, name))
        names += [name] * len(tight)
    frame = pd.DataFrame(np.concatenate(parts), columns=["x0", "y0", "x1", "y1"])
    frame["image_id"] = pd.Series(names, dtype=object)
    frame["annotator"] = "simulated"
    frame["seconds"] = np.nan
    return typed(frame, BOXES)


def _annotated(
    good: list[tuple[dict[str, Any], Scan]], annotations: list[dict[str, Any]]
) -> pd.DataFrame:
    """Boxes as annotated, unchecked."""
    names = {row["id"]: row["file_name"] for row, _ in good}
    rows = []
    for annotation in annotations:
        name = names.get(annotation["image_id"])
        if name is not None:
            x, y, width, height = (float(value) for value in annotation["bbox"])
            seconds = annotation.get("seconds")
            rows.append((name, x, y, x + width, y + height, annotation.get("annotator"), seconds))
    return typed(pd.DataFrame(rows, columns=BOXES.names), BOXES)


def _images(
    dataset: datasets.Dataset, good: list[tuple[dict[str, Any], Scan]], boxes: pd.DataFrame
) -> pd.DataFrame:
    """The table of photos."""
    rows = [row for row, _ in good]
    seen = [found for _, found in good]
    masks = [found.mask for found in seen]
    counts = boxes["image_id"].value_counts().to_dict()
    columns = {  # one at a time: a million rows of Python objects take much memory
        "image_id": (row["file_name"] for row in rows),
        "path": (f"{datasets.PHOTOS}/{row['file_name']}" for row in rows),
        "sha256": (found.sha256 for found in seen),
        "width": (found.size[0] for found in seen),
        "height": (found.size[1] for found in seen),
        "label": (row["label"] for row in rows),
        "mask_path": (row.get("mask") for row in rows),
        "mask_sha256": (mask and mask.sha256 for mask in masks),
        "mask_width": (mask and mask.size[0] for mask in masks),
        "mask_height": (mask and mask.size[1] for mask in masks),
        "stated": (row.get("split") if dataset.split == "given" else None for row in rows),
        "keys": (_keys(row) for row in rows),
        "source": (row.get("source") or dataset.source for row in rows),
        "kind": (row.get("kind") for row in rows),
        "phash": (found.phash for found in seen),
        "n_boxes": (counts.get(row["file_name"], 0) for row in rows),
    }
    arrays = [pa.array(columns[field.name], field.type) for field in INDEX]
    return pa.table(arrays, schema=INDEX).to_pandas()


def _keys(row: dict[str, Any]) -> list[str]:
    """What photos have in common with a photo of the same group or origin; else its own name."""
    group = row.get("group")
    return [*(row.get("origins") or ()), *([group] if group else ())] or [row["file_name"]]
