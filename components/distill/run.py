"""Distillation from start to finish: data, student, training and its cache key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import timm
import torch

from components.core.code import code_sha256
from components.core.files import sha256_bytes, sha256_json
from components.core.params import Distill
from components.core.paths import DISTILL_CACHE, state_dir
from components.core.seeds import derive, fix_torch, hold_memory
from components.data.manifest import Manifest
from components.distill.cache import Decoded, decoded
from components.distill.calibration import calibrate
from components.distill.examples import annotation_hours, collect, counts
from components.distill.parallel import ALONE, DistributedContext
from components.distill.progress import Watcher
from components.distill.state import State
from components.distill.trainer import train
from components.student.model import Student, build, configure
from components.student.store import weights_bytes

# What decides the steps of a training: another line in one of these is another training.
CODE = (
    "components.core.metrics",
    "components.core.seeds",
    "components.core.sweep",
    "components.distill.batches",
    "components.distill.losses",
    "components.distill.parallel",
    "components.distill.state",
    "components.distill.trainer",
    "components.student.config",
    "components.student.fusion",
    "components.student.infer",
    "components.student.model",
    "components.student.tiles",
    "components.synthesis.degrade",
    "components.synthesis.paste",
    "components.synthesis.splices",
)


@dataclass(frozen=True)
class Distilled:
    """A trained student, its curve, photos per split and label, hours of drawing behind them."""

    student: Student
    trained: State
    counts: dict[str, int]
    hours: dict[str, float]


def distill(
    manifest: Manifest,
    dataset: Path,
    pseudo: Path,
    params: Distill,
    watcher: Watcher,
    context: DistributedContext = ALONE,
) -> Distilled:
    """Train a student on the pseudo-masks of the photos that a manifest names below `dataset`.

    Checkpoints are in `state_dir()/cache/distill/<key>`: the key covers the data, the parameters,
    the first weights and the code, so a changed one never resumes an old training, and the same
    command after a kill continues. A finished training is found there too: its checkpoint is
    verified and the result written from it again.

    Raises:
        InputError: unusable data, backbone or weights.
        ImlError: the loss is not finite.
    """
    fix_torch(derive(params.seed, "student"), params.threads)
    hold_memory()
    examples = collect(manifest, dataset, pseudo, params)
    student = build(configure(params.student), params.student.weights)
    root = state_dir() / DISTILL_CACHE
    if context.leads:  # the others find the arrays decoded
        decoded(examples, params, root / "data")
    context.wait()
    data = decoded(examples, params, root / "data")
    folder = root / training_key(student, data, params, context.size)
    folder.mkdir(parents=True, exist_ok=True)
    trained = train(student, data, params, folder, watcher, context)
    calibrate(student, data)
    return Distilled(student, trained, counts(examples), annotation_hours(manifest, examples))


def training_key(student: Student, data: Decoded, params: Distill, processes: int) -> str:
    """The cache key of a training: everything its result depends on."""
    return sha256_json(
        {
            "data": data.key,
            "weights": data.weights.tolist(),
            "processes": processes,
            "params": params.model_dump(exclude={"student": {"copies"}}),
            **maker(student),
        }
    )


def maker(student: Student, *modules: str) -> dict[str, Any]:
    """What makes a student besides data and parameters: how it begins, code, library versions.

    `modules` decide its training besides `CODE`.
    """
    return {
        "student": student.config.model_dump(exclude={"copies"}),  # not of the network
        "first_weights": sha256_bytes(weights_bytes(student)),
        "code": code_sha256(*CODE, *modules),
        "versions": [m.__version__ for m in (torch, timm, np, cv2)],
    }
