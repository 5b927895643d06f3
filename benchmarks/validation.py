"""How fast and how small validation is, against one plain numpy pass over the same conditions."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import peak_mb
from components.core.errors import CheckError
from components.core.params import Validate
from components.data import manifest
from components.data.manifest import Manifest

SIZE = 512  # pixels a side of the made photos
PER_FOLDER = 10_000
PARAMS = Validate(min_side=3.0, min_area=16.0, max_area_share=0.95, min_class_share=0.05)


def made(photos: int, boxes: int, seed: int = 0) -> Manifest:
    """A manifest of sound photos and boxes; half of the photos are manipulated and share boxes."""
    numbers = np.arange(photos)
    manipulated = numbers % 2 == 1
    ids = pd.Series([f"{n // PER_FOLDER:03d}/photo-{n:07d}.jpg" for n in numbers])
    digest = pd.Series([f"{n:064x}" for n in numbers])
    images = pd.DataFrame(
        {
            "image_id": ids,
            "dataset": "made",
            "pool": False,
            "path": "photos/" + ids,
            "sha256": digest,
            "width": np.int32(SIZE),
            "height": np.int32(SIZE),
            "label": np.where(manipulated, "manipulated", "authentic"),
            "split": np.array(["train", "train", "val", "test"])[numbers // 2 % 4],
            "group": ids,
            "source": ids,
            "phash": digest.str[-16:],
            "n_boxes": np.int32(0),
        }
    )
    absent = ["mask_path", "mask_sha256", "mask_width", "mask_height", "kind"]
    images = images.assign(**dict.fromkeys(absent, None))
    rows = np.sort(np.arange(boxes) % (photos // 2) * 2 + 1)
    random = np.random.default_rng(seed)
    corner = random.uniform(0, SIZE / 2, (boxes, 2))
    far = corner + random.uniform(8, SIZE / 2, (boxes, 2))
    columns = dict(zip(("x0", "y0", "x1", "y1"), np.hstack([corner, far]).T, strict=True))
    drawn = pd.DataFrame({"image_id": ids.iloc[rows].to_numpy(), **columns})
    return Manifest(images, drawn.assign(annotator=None, seconds=None))


def _prepare(folder: Path, photos: int, boxes: int) -> None:
    """Write the made manifest, and an empty file for every photo in it."""
    tables = made(photos, boxes)
    manifest.write(folder, tables)
    for number in range(0, photos, PER_FOLDER):
        (folder / "photos" / f"{number // PER_FOLDER:03d}").mkdir(parents=True)
    for path in tables.images["path"]:
        (folder / path).touch()


def plain_pass(tables: Manifest) -> int:
    """The box conditions once in plain numpy: the least that any validation has to do.

    Returns:
        How many boxes break one of them.
    """
    index = pd.Index(tables.images["image_id"])
    rows = index.get_indexer(pd.Index(tables.boxes["image_id"]))
    size = tables.images[["width", "height"]].to_numpy(dtype=np.float64)[rows]
    box = tables.boxes[["x0", "y0", "x1", "y1"]].to_numpy(dtype=np.float64)
    sides = box[:, 2:] - box[:, :2]
    area = sides.prod(axis=1)
    good = (
        np.isfinite(box).all(axis=1)
        & (rows >= 0)
        & (box[:, :2] >= 0).all(axis=1)
        & (box[:, 2:] <= size).all(axis=1)
        & (sides >= PARAMS.min_side).all(axis=1)
        & (area >= PARAMS.min_area)
        & (area <= PARAMS.max_area_share * size.prod(axis=1))
        & (tables.images["label"].to_numpy()[rows] == "manipulated")
    )
    frame = pd.DataFrame(box).assign(row=rows)
    return int((~good | frame.duplicated(keep=False)).sum())


def measure(folder: Path) -> dict[str, Any]:
    """Read, validate and render one prepared folder in this process, then the plain pass."""
    start = time.perf_counter()
    from components.validate.report import render
    from components.validate.suite import great_expectations, validate
    from components.validate.tables import BOXES_READ, IMAGES_READ, related

    great_expectations()
    imported, used = time.perf_counter(), time.process_time()
    tables = manifest.read(folder, IMAGES_READ, BOXES_READ)
    rows = related(tables)
    report = validate(tables, folder, PARAMS, rows)
    render(report, tables, rows)
    done, used = time.perf_counter(), time.process_time() - used
    peak = peak_mb()
    broken = plain_pass(tables)
    plain = time.perf_counter() - done
    return {
        "photos": len(tables.images),
        "boxes": len(tables.boxes),
        "seconds": done - imported,
        "cpu_seconds": used,
        "import_seconds": imported - start,
        "peak_mb": peak,
        "boxes_per_s": len(tables.boxes) / (done - imported),
        "plain_seconds": plain,
        "ratio_to_plain": (done - imported) / plain,
        "passed": report.passed and not report.warnings and broken == 0,
    }


def bench_validation(boxes: int = 1_000_000, photos: int | None = None) -> dict[str, Any]:
    """Validate made boxes in a process of its own.

    Args:
        boxes: how many.
        photos: how many they stand on, half of them authentic; a quarter of the boxes unless told.

    Returns:
        seconds (read, validate, render), cpu_seconds (of the same work), import_seconds, peak_mb,
        boxes_per_s, plain_seconds, ratio_to_plain (how many times as long as the plain pass),
        photos, boxes, passed.

    Raises:
        CheckError: the measuring process failed.
    """
    with tempfile.TemporaryDirectory(prefix="iml-bench-") as folder:
        _prepare(Path(folder), photos or max(boxes // 4, 8), boxes)
        command = [sys.executable, "-m", "benchmarks.validation", folder]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        if process.returncode:
            last = process.stderr.strip().splitlines()[-1:]
            raise CheckError(f"measuring failed: {' '.join(last)}", where="bench validation")
        return dict(json.loads(process.stdout))


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]))))
