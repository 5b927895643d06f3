"""Ultralytics YOLO: `data.yaml`, `images/SPLIT/` and beside it `labels/SPLIT/`, one line a box.

A line holds either a box or one polygon: a region takes its box's place, several parts of one are
joined by a line of no width, as Ultralytics does it. Where no photo has a split all lie in
`images/` itself, which `data.yaml` then names for training and validation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from components.core.files import write_text
from components.data.manifest import SPLITS
from components.ingest.formats.record import Box, Record
from components.ingest.writers.photos import (
    categories,
    category,
    place,
    refuse_equal_stems,
    stem,
    write_plain,
)
from components.ingest.writers.regions import joined, rings


def write(records: Sequence[Record], out: Path, licence: str) -> Counter[str]:
    """Write photos and labels below `out`; returns how much the lines could not hold."""
    refuse_equal_stems(records, out)
    splits = {record.split for record in records} - {None}
    rest = "train" if splits else ""  # where photos without a split go
    place(records, lambda record: out / "images" / (record.split or rest))
    names, lost = categories(records), Counter[str]()
    lost["photos without a split, put into train"] = sum(r.split is None for r in records if rest)
    for record in records:
        number = names.index(category(record))
        lines = [f"{number} {_numbers(box, record.size or (1, 1), lost)}\n" for box in record.boxes]
        file = out / "labels" / (record.split or rest) / f"{stem(record)}.txt"
        write_plain(file, "".join(lines).encode())
    places = {split: f"images/{split}" for split in SPLITS if split in {*splits, rest}}
    places = places or {"train": "images", "val": "images"}
    card: dict[str, Any] = {**places, "names": dict(enumerate(names))}
    write_text(out / "data.yaml", yaml.safe_dump(card, sort_keys=False, allow_unicode=True))
    return lost


def _numbers(box: Box, size: tuple[int, int], lost: Counter[str]) -> str:
    """Centre and sides of a box, or the points of its region, as shares of the photo's sides."""
    values = [box.x + box.width / 2, box.y + box.height / 2, box.width, box.height]
    if box.region:
        lost["boxes, where a region takes their place"] += 1
        values = joined(rings(box.region, size))
    return " ".join(f"{value / size[i % 2]:.8f}" for i, value in enumerate(values))
