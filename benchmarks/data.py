"""How much `prepare` costs beyond what it cannot do without: hashing and decoding the photos."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from components.core import images
from components.core.files import sha256_bytes
from components.core.params import Prepare, Split
from components.data import build as prepare
from components.data import scan
from components.data.dataset import PHOTOS, Dataset, save
from components.data.manifest import AUTHENTIC, MANIPULATED

WIDTH, HEIGHT = 384, 256
_ROUNDS = 3
_SEED = 0


def bench_prepare(n: int, folder: Path) -> dict[str, float]:
    """Time `prepare.build` against hashing and decoding the same photos and nothing else.

    Both use the same threads and alternate, and the fastest of three rounds counts, so that
    neither profits from warm caches or a busy machine.

    Args:
        n: photos to make (distinct JPEGs of 384x256, every second one with a box).
        folder: an empty folder for them.

    Returns:
        photos, threads, `bare_seconds`, `prepare_seconds`, and `ratio`, the speed of `prepare` as
        a share of the bare speed.
    """
    root = folder / "made"
    paths = make_photos(root, n)
    settings = prepare_settings(near_duplicate_bits=4)
    files = [str(path) for path in paths]
    bare, full = [], []
    for _ in range(_ROUNDS):
        bare.append(_seconds(lambda: scan.run(_hash_and_decode, files)))
        full.append(_seconds(lambda: prepare.build(root, settings)))
    return {
        "photos": n,
        "threads": scan.cores(),
        "bare_seconds": min(bare),
        "prepare_seconds": min(full),
        "ratio": min(bare) / min(full),
    }


def prepare_settings(near_duplicate_bits: int) -> Prepare:
    """How benches make a manifest of made or given photos."""
    return Prepare(
        datasets=["made"],
        seed=7,
        jitter=0.1,
        split=Split(val=0.15, test=0.3),
        near_duplicate_bits=near_duplicate_bits,
        max_megapixels=64.0,
        max_quarantined=0,
    )


def _seconds(work: Callable[[], object]) -> float:
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _hash_and_decode(path: str) -> tuple[str, tuple[int, ...]]:
    data = images.read_bytes(path)
    return sha256_bytes(data), images.decode_photo(data, path).shape


def make_photos(root: Path, n: int) -> list[Path]:
    """Write a data set of `n` distinct photos with given boxes; returns the photos' paths."""
    folder = root / PHOTOS
    folder.mkdir(parents=True)
    paths = [folder / f"{number:06}.jpg" for number in range(n)]
    scan.run(lambda pair: _make(*pair), list(enumerate(paths)))
    rows = [
        {
            "id": number,
            "file_name": path.name,
            "width": WIDTH,
            "height": HEIGHT,
            "label": MANIPULATED if number % 2 else AUTHENTIC,
        }
        for number, path in enumerate(paths)
    ]
    boxes = [
        {
            "id": number,
            "image_id": number,
            "category_id": 1,
            "bbox": [40.0, 30.0, 120.0, 90.0],
            "area": 10800.0,
            "iscrowd": 0,
        }
        for number in range(1, n, 2)
    ]
    save(
        Dataset(
            root=root,
            name="made",
            licence="made for a bench",
            source="made",
            boxes="given",
            split="grouped",
            images=rows,
            annotations=boxes,
        )
    )
    return paths


def _make(number: int, path: Path) -> None:
    """A photo-like picture: smooth shapes under fine grain, so that decoding costs as usual."""
    stream = np.random.default_rng([_SEED, number])
    coarse = stream.integers(0, 256, (8, 12, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    grain = stream.integers(0, 24, (HEIGHT // 2, WIDTH // 2, 1), dtype=np.uint8)
    fine = cv2.resize(grain, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    picture = cv2.add(picture, cv2.merge([fine, fine, fine]))
    if not cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 85]):
        raise OSError(f"{path}: could not be written")
