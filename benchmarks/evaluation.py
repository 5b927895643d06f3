"""How much an evaluation costs beyond the model's forward pass alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.data import HEIGHT, WIDTH, make_photos
from components.core.files import sha256_file
from components.core.images import open_photo, save_grey
from components.core.params import Evaluate
from components.data.manifest import AUTHENTIC, IMAGES, MANIPULATED
from components.evaluate.run import Predict, evaluate
from components.student import infer
from components.student.model import Student

_ROUNDS = 3


def forward_only(student: Student, photos: Sequence[np.ndarray]) -> Callable[[], None]:
    """The network alone on these photos, as a yardstick: squares made beforehand, answers left."""
    squares = np.stack([infer.shrink(photo, student.config.size) for photo in photos])
    starts = range(0, len(squares), infer.BATCH)
    ready = [infer.to_tensor(squares[start : start + infer.BATCH]) for start in starts]

    @torch.inference_mode()
    def run() -> None:
        for batch in ready:
            student(batch)

    return run


def bench_evaluation(
    photos: int,
    predict: Predict,
    forward: Callable[[Sequence[np.ndarray]], Callable[[], object]],
    params: Evaluate,
    folder: Path,
) -> dict[str, Any]:
    """Time `run.evaluate` against the forward pass alone, alternating.

    Args:
        photos: photos to make (JPEGs of 384x256, every second one manipulated, with a mask).
        predict: the model.
        forward: given all photos decoded, what runs the model on them once and nothing else.
        params: resamples, confidence, seed.
        folder: an empty folder for the photos.

    Returns:
        `photos`, `forward_seconds` and `evaluate_seconds` of the fastest round, and `ratio`, the
        throughput of the evaluation as a share of the forward pass.
    """
    root = folder / "made"
    images = _rows(make_photos(root, photos), root)
    alone = forward([open_photo(root / path) for path in images["path"]])
    alone()
    rounds = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        alone()
        middle = time.perf_counter()
        evaluate(predict, images, root, params)
        rounds.append((middle - start, time.perf_counter() - middle))
    bare, whole = (min(column) for column in zip(*rounds, strict=True))
    return {
        "photos": photos,
        "forward_seconds": bare,
        "evaluate_seconds": whole,
        "ratio": bare / whole,
    }


def _rows(paths: list[Path], root: Path) -> pd.DataFrame:
    """Manifest rows of the made photos; the odd ones are manipulated in a fixed square."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[60:140, 80:200] = 255
    save_grey(root / "masks/mask.png", mask)
    rows: list[dict[str, Any]] = []
    for number, path in enumerate(paths):
        row: dict[str, Any] = dict.fromkeys(IMAGES.names)
        row |= {
            "image_id": path.name,
            "path": str(path.relative_to(root)),
            "sha256": sha256_file(path),
            "width": WIDTH,
            "height": HEIGHT,
            "label": MANIPULATED if number % 2 else AUTHENTIC,
            "mask_path": "masks/mask.png" if number % 2 else None,
            "split": "test",
            "group": path.name,
            "source": "made",
            "n_boxes": number % 2,
        }
        rows.append(row)
    return pd.DataFrame(rows, columns=IMAGES.names)
