"""What `iml teacher train` does: sources in, weights with their figures out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from components.core.files import atomic, sha256_file, write_json
from components.core.progress import Progress
from components.core.weights import lite0
from components.pseudo_label.checkpoints import Checkpoint
from components.pseudo_label.teachers.sam_lite.model import load_teacher, read_network
from research.sam_lite import sources, tuning
from research.sam_lite.calibration import calibration
from research.sam_lite.train import TrainConfig, train

RELEASE, REPORT = "sam_lite-half.safetensors", "tuning.json"
_WITH_REGIONS = {
    "object": 0.27,
    "geometric": 0.18,
    "free-form": 0.1,
    "silhouette": 0.1,
    "region": 0.35,
}
_TUNING_PAIRS = 600


def train_command(
    photos: list[Path],
    cutouts: list[Path],
    regions: Path | None,
    out: Path,
    *,
    steps: int = TrainConfig.steps,
    seed: int = TrainConfig.seed,
    threads: int = TrainConfig.threads,
    start: Path | None = None,
    pairs: int = _TUNING_PAIRS,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train `sam_lite`, store it in half precision and score it on held-out pairs.

    Args:
        photos: folders of photos.
        cutouts: folders of RGBA cut-outs.
        regions: a folder with `images/` and `segments/` as BSDS500 has them, or None.
        out: folder of everything made; the same call goes on where a killed one stopped.
        steps: of the optimizer.
        seed: of weights and pairs.
        threads: of torch.
        start: weights of an earlier training to go on from, or None for ImageNet's.
        pairs: held-out pairs to score.
        progress: called with (steps done, steps).

    Returns:
        `weights` (path), `sha256`, `bytes`, `steps`; `tuning`: mean IoU of the mask and of the
        filled box, and mean confidence, for each kind of pair and for all; `calibration`: mean
        confidence and true IoU in ten bins; `fit`: the constants that would calibrate these
        weights (`components.pseudo_label.teachers.sam_lite.model.CALIBRATION`).

    Raises:
        InputError: before the first step: unusable sources, nothing to train on or to hold out,
            unusable first weights, or `out` holds another run.
    """
    shares = _WITH_REGIONS if regions else TrainConfig().shares
    config = replace(TrainConfig(), steps=steps, seed=seed, threads=threads, shares=shares)
    earlier = read_network(Checkpoint(start))[0].state_dict() if start else None
    learnt, held = (sources.load(photos, cutouts, regions, side) for side in (False, True))
    trained = train(config, learnt, None if start else lite0(), out, progress, earlier)
    release = store_half(trained, out / RELEASE)
    report = {
        "weights": str(release),
        "sha256": sha256_file(release),
        "bytes": release.stat().st_size,
        "steps": steps,
        **_tuning(release, held, shares, pairs, threads),
    }
    write_json(out / REPORT, report)
    return report


def store_half(weights: Path, target: Path) -> Path:
    """Store float32 weights in half precision, which half the file and no mask shows."""
    state = {name: value.to(torch.float16) for name, value in load_file(weights).items()}
    with atomic(target) as path:
        save_file(state, path)
    return target


def _tuning(
    weights: Path, held: sources.Sources, shares: dict[str, float], count: int, threads: int
) -> dict[str, Any]:
    scores = tuning.score(load_teacher(Checkpoint(weights), threads), held, shares, count)
    columns = ["iou", "box", "confidence"]
    table = {
        str(kind): {column: float(rows[column].mean()) for column in columns} | {"n": len(rows)}
        for kind, rows in [*scores.groupby("kind"), ("all", scores)]
    }
    return {
        "tuning": table,
        "calibration": calibration(scores),
        "fit": tuning.fit(scores),
    }
