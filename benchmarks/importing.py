"""How much an import costs beyond hashing and looking up the same files, and how much memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import peak_mb
from components.core.files import sha256_file
from components.ingest.importing import import_dataset

WIDTH, HEIGHT = 64, 48
_PER_FOLDER = 10_000
_PICTURES = 256
_ROUNDS = 3


def bench_import(photos: int, folder: Path) -> dict[str, float]:
    """Time an import of COCO with hard links against a pass that only hashes and looks up files.

    The two alternate, each in a process of its own; the fastest of three rounds counts.

    Args:
        photos: photos to make (distinct JPEGs of 64x48, each with a box).
        folder: an empty folder for them.

    Returns:
        photos, `bare_seconds`, `import_seconds` and their `ratio`; the same of processor time,
        which a busy machine distorts less; `peak_mb` of the import's process, and `start_mb` of it
        before the import began.
    """
    source = folder / "source"
    make_source(source, photos)
    bare, full = [], []
    for number in range(_ROUNDS):
        bare.append(_measured("bare", source, folder))
        full.append(_measured("import", source, folder / f"made{number}"))
    fastest = {
        f"{name}_{unit}": min(one[unit] for one in runs)
        for unit in ("seconds", "cpu_seconds")
        for name, runs in (("bare", bare), ("import", full))
    }
    return {
        "photos": photos,
        **fastest,
        "ratio": fastest["import_seconds"] / fastest["bare_seconds"],
        "cpu_ratio": fastest["import_cpu_seconds"] / fastest["bare_cpu_seconds"],
        "peak_mb": max(one["peak_mb"] for one in full),
        "start_mb": max(one["start_mb"] for one in full),
    }


def make_source(source: Path, photos: int) -> None:
    """Distinct photos, made so by a comment, and one COCO file with a box on each."""
    random = np.random.default_rng(0)
    pictures = [_jpeg(random) for _ in range(min(photos, _PICTURES))]
    images, boxes = [], []
    for number in range(photos):
        name = f"{number // _PER_FOLDER:03}/{number:07}.jpg"
        if number % _PER_FOLDER == 0:
            (source / "images" / name).parent.mkdir(parents=True)
        comment = b"\xff\xfe\x00\x0a%08d" % number
        picture = pictures[number % len(pictures)]
        (source / "images" / name).write_bytes(picture[:2] + comment + picture[2:])
        images.append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
        boxes.append({"id": number, "image_id": number, "category_id": 1, "bbox": [8, 8, 30, 20]})
    categories = [{"id": 1, "name": "manipulated"}]
    index = {"images": images, "annotations": boxes, "categories": categories}
    (source / "annotations.json").write_text(json.dumps(index))


def _jpeg(random: np.random.Generator) -> bytes:
    coarse = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    made = BytesIO()
    smooth = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    smooth.save(made, "JPEG", quality=85)
    return made.getvalue()


def _measured(what: str, source: Path, out: Path) -> dict[str, float]:
    command = [sys.executable, "-m", __name__, what, str(source), str(out)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _hash_and_look_up(source: Path) -> None:
    for folder, _, names in os.walk(source):
        for name in names:
            path = f"{folder}/{name}"
            os.stat(path)
            sha256_file(path)


def _main(what: str, source: Path, out: Path) -> None:
    before, cpu, start = peak_mb(), time.process_time(), time.perf_counter()
    if what == "bare":
        _hash_and_look_up(source)
    else:
        import_dataset(source, out, name="made", licence="made", source_name="made")
    found = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mb": peak_mb(),
        "start_mb": before,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
