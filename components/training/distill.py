"""Distillation from start to finish: data, student, training, and what it is filed under."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import timm
import torch

from components.data.manifest import Manifest
from components.files import sha256_bytes, sha256_file, sha256_json, state_dir
from components.params import Distill
from components.seeds import derive, fix_torch, hold_memory
from components.student.model import Student, build, configure
from components.student.store import weights_bytes
from components.training.cache import Decoded, decoded
from components.training.calibration import calibrate
from components.training.examples import Example, annotation_hours, collect, counts
from components.training.parallel import ALONE, Team
from components.training.progress import Watcher
from components.training.trainer import Trained, train


@dataclass(frozen=True)
class Distilled:
    """A trained student, its curve, photos per split and label, hours of drawing behind them."""

    student: Student
    trained: Trained
    counts: dict[str, int]
    hours: dict[str, float]


def distill(
    manifest: Manifest,
    dataset: Path,
    pseudo: Path,
    params: Distill,
    watcher: Watcher,
    team: Team = ALONE,
) -> Distilled:
    """Train a student on a data set's pseudo-masks.

    Checkpoints lie under `state_dir()/cache/distill/<key>`: the key covers the data, the
    parameters, the first weights and the code, so a changed one never resumes an old training, and
    the same command after a kill goes on where it was. A finished training is found there too: its
    checkpoint is verified and the result written from it again.

    Raises:
        InputError: unusable data, backbone or weights.
        ImlError: the loss is not finite.
    """
    fix_torch(derive(params.seed, "student"), params.threads)
    hold_memory()
    examples = collect(manifest, dataset, pseudo, params)
    student = build(configure(params), params.weights)
    root = state_dir() / "cache" / "distill"
    data = _decoded(examples, params, root / "data", team)
    folder = root / training_key(student, data, params, team.size)
    folder.mkdir(parents=True, exist_ok=True)
    trained = train(student, data, params, folder, watcher, team)
    calibrate(student, data)
    return Distilled(student, trained, counts(examples), annotation_hours(manifest, examples))


def _decoded(examples: list[Example], params: Distill, root: Path, team: Team) -> Decoded:
    """The arrays, made by the leader alone where they are not there."""
    if team.leads:
        decoded(examples, params, root)
    team.wait()
    return decoded(examples, params, root)


def training_key(student: Student, data: Decoded, params: Distill, processes: int) -> str:
    """What a training is filed under: everything its result depends on."""
    return sha256_json(
        {
            "data": data.key,
            "weights": data.weights.tolist(),
            "processes": processes,
            "params": params.model_dump(),
            **maker(student, "training", "student"),
        }
    )


def maker(student: Student, *packages: str) -> dict[str, Any]:
    """What makes a student besides data and parameters: first weights, code, library versions.

    Another line of code in one of these packages of `components`, or in the modules that decide
    what they draw, see and count as found, is another training.
    """
    components = Path(__file__).parents[1]
    paths = [path for name in packages for path in sorted((components / name).glob("*.py"))]
    paths += [components / name for name in ("seeds.py", "data/jpeg.py", "evaluation/metrics.py")]
    return {
        "first_weights": sha256_bytes(weights_bytes(student)),
        "code": sha256_json([[path.name, sha256_file(path)] for path in paths]),
        "versions": [m.__version__ for m in (torch, timm, np, cv2)],
    }
