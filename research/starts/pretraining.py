"""Pre-training of a student: own weights for backbones whose ImageNet weights need a hub.

It learns two things at once, on composites of free photos and cut-outs: to imitate
EfficientNet-Lite0 (its four scales, through 1x1 projections that are discarded; FitNets,
Romero et al. 2015), and to find what was pasted (the student's own loss).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from components.core.files import sha256_file, sha256_json, write_bytes, write_json
from components.core.params import Distill
from components.core.seeds import derive, fix_torch, hold_memory
from components.distill.batches import Batch
from components.distill.losses import distillation
from components.distill.progress import Watcher
from components.distill.run import maker
from components.distill.state import State, begin
from components.distill.trainer import Course, descend, fit
from components.student import backbones
from components.student import store as students
from components.student.config import StudentConfig
from components.student.model import Student, build, configure
from research.sam_lite.sources import Sources
from research.starts.composites import batches, held_out

BACKBONE, REPORT = "backbone.safetensors", "pretraining.json"
_MATCH = "match."
_CODE = (
    "research.sam_lite.sources",
    "research.scenes",
    "research.shapes",
    "research.starts.composites",
    "research.starts.pretraining",
)


@dataclass(frozen=True)
class Plan:
    """How long, and how it is judged.

    Attributes:
        steps: of the optimiser.
        every: steps between two checkpoints, each of them scored on held-out composites.
        held_out: composites to score on; their photos and cut-outs are never trained on.
    """

    steps: int = 3000
    every: int = 250
    held_out: int = 256


class PretrainingModel(Student):
    """A student that is also asked to see as another network does."""

    def __init__(self, config: StudentConfig, wanted: list[int]) -> None:
        """Add projections of its scales onto the other's, whose channels are `wanted`."""
        super().__init__(config)
        pairs = zip(backbones.widths(self.backbone), wanted, strict=True)
        self.match = nn.ModuleList(nn.Conv2d(own, other, 1) for own, other in pairs)

    def mismatch(self, features: list[Tensor], wanted: list[Tensor]) -> Tensor:
        """Mean squared difference from the other's maps, each channel of which has deviation 1."""
        parts = []
        for project, own, other in zip(self.match, features, wanted, strict=True):
            parts.append(F.mse_loss(project(own), F.batch_norm(other, None, None, training=True)))
        return torch.stack(parts).mean()


def pretrain(
    sources: Sources, held: Sources, params: Distill, plan: Plan, out: Path, watcher: Watcher
) -> dict[str, Any]:
    """Pre-train a student, resuming from the newest intact checkpoint of this very run.

    Args:
        sources: what composites are made from.
        held: other ones, to judge by.
        params: the student, `batch`, rates, seed and threads; `student.weights` are the
            backbone's first ones. Epochs, data and augmentation mean nothing here.
        plan: see `Plan`.
        out: folder of checkpoints and results.
        watcher: is given every step; its epochs are the times between checkpoints.

    Returns:
        What `pretraining.json` holds: the best checkpoint's figures on held-out composites and both
        files' SHA-256.

    Raises:
        InputError: unknown backbone or unusable first weights.
        ImlError: the loss is not finite.
    """
    fix_torch(derive(params.seed, "pretraining"), params.threads)
    hold_memory()
    changes = {"backbone": backbones.PACKAGE_BACKBONE, "frontend": "none"}
    reference = build(configure(params.student.model_copy(update=changes)), "package")
    reference = reference.eval().requires_grad_(False)
    student = PretrainingModel(configure(params.student), backbones.widths(reference.backbone))
    backbones.load_weights(student.backbone, params.student.backbone, params.student.weights)
    student.to(memory_format=torch.channels_last)
    state = begin(student, params)
    judged = held_out(held, params.seed, params.student.size, plan.held_out)
    folder = out / "checkpoints" / _key(student, sources, held, params, plan)
    folder.mkdir(parents=True, exist_ok=True)

    def made(epoch: int) -> Iterator[Batch]:
        steps = range((epoch - 1) * plan.every, min(epoch * plan.every, plan.steps))
        return batches(sources, params.seed, params.student.size, params.batch, steps)

    def learn(batch: Batch) -> float:
        return _step(state, student, reference, batch, params)

    course = Course("pretrain", plan.every, plan.steps, made, learn)
    length = {"epochs": math.ceil(plan.steps / plan.every), "patience": 0}
    fit(state, course, params.model_copy(update=length), judged, folder, watcher)
    return _write(state, params, plan, sources, out)


def _key(
    student: PretrainingModel, sources: Sources, held: Sources, params: Distill, plan: Plan
) -> str:
    """What a pre-training is filed under: everything its result depends on."""
    digests = [sources.digest, held.digest]
    facts = {"params": params.model_dump(), "plan": asdict(plan), "sources": digests}
    facts |= maker(student, *_CODE)
    return sha256_json(facts)[:16]


def _step(
    state: State, student: PretrainingModel, reference: Student, batch: Batch, params: Distill
) -> float:
    """One optimiser step; returns its loss."""
    with torch.no_grad():
        wanted = reference.features(batch.photos)
    features = student.features(batch.photos)
    logits = student.answer(features, batch.photos.shape[-2:])
    loss = distillation(logits, batch.targets, batch.weights, params.loss).mean()
    loss = loss + student.mismatch(features, wanted)
    return descend(loss, student, state.optimiser)


def _write(
    state: State, params: Distill, plan: Plan, sources: Sources, out: Path
) -> dict[str, Any]:
    """The whole student, its backbone alone, and what was measured, each atomically."""
    student = Student(configure(params.student))
    kept = {name: value for name, value in state.best.items() if not name.startswith(_MATCH)}
    student.load_state_dict(kept)
    students.save(student, out)
    backbone = student.backbone.state_dict()
    write_bytes(out / BACKBONE, to_bytes({k: v.contiguous() for k, v in backbone.items()}))
    report = {
        "backbone": params.student.backbone,
        "first_weights": params.student.weights,
        "size": params.student.size,
        "batch": params.batch,
        **asdict(plan),
        "sources": sources.digest,
        "best": state.history[state.best_epoch - 1],
        "files": {
            name: {"sha256": sha256_file(out / name), "bytes": (out / name).stat().st_size}
            for name in (BACKBONE, students.WEIGHTS)
        },
    }
    write_json(out / REPORT, report | {"history": state.history})
    return report
