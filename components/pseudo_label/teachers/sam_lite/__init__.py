"""`sam_lite`, the project's own small SAM. Weights and card are in `assets/`.

How the weights were made is `research.sam_lite`.
"""

from __future__ import annotations

from pathlib import Path

from components.core.params import PseudoLabel
from components.pseudo_label.candidates import Teacher
from components.pseudo_label.checkpoints import Checkpoint, Weights
from components.pseudo_label.registry import TeacherSpec


def _build(params: PseudoLabel, checkpoint: Checkpoint | None) -> Teacher:
    from components.pseudo_label.teachers.sam_lite.model import load_teacher

    return load_teacher(checkpoint or Checkpoint(WEIGHTS.path, WEIGHTS), params.threads)


WEIGHTS = Weights(
    "sam_lite.safetensors",
    6_731_542,
    "a1196c3fd7db937ef2a5689da1c0a7d5234d62de302ab8cd39fc896b1b68d034",
    folder=Path(__file__).parent / "assets",
)

SPECS = (
    TeacherSpec(
        name="sam_lite",
        kind="small SAM of this project",
        build=_build,
        modules=(
            f"{__name__}.model",
            f"{__name__}.network",
            "components.pseudo_label.networks",
            "components.core.seeds",
        ),
        libraries=("torch", "timm", "segment-anything"),
        weights=WEIGHTS,
    ),
)
