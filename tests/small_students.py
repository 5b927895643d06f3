"""Students that are quick to make, and the settings of quick trainings, for tests everywhere."""

from __future__ import annotations

import torch

from components.core.params import Distill
from components.student.config import StudentConfig
from components.student.model import Student

_SETTINGS = {
    "seed": 3,
    "threads": 1,
    "supervision": "pseudo_masks",
    "share": 1.0,
    "pool": [],
    "pool_share": 0.25,
    "zoom": 1.5,
    "device": "cpu",
    "amp": False,
    "epochs": 3,
    "patience": 0,
    "batch": 4,
    "learning_rate": 0.003,
    "backbone_rate": 1.0,
    "weight_decay": 0.01,
    "ema": 0.0,
    "loss": {"confidence": True, "dice": 1.0, "boundary": 0.0},
    "augment": True,
    "splices": 0.0,
}
_NETWORK = {
    "backbone": "mobilenetv3_small_050",
    "size": 64,
    "channels": 8,
    "prototypes": 4,
    "alpha": "learned",
    "gates": True,
    "dual_guidance": True,
    "frontend": "none",
    "view": "resize",
    "overlap": 0.25,
}
_STUDENT = _NETWORK | {"backbone": "tf_efficientnet_lite0", "weights": "none"}


def small_config(**changes: object) -> StudentConfig:
    """A small network."""
    normal = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    return StudentConfig.model_validate(_NETWORK | normal | changes)


def small_settings(**changes: object) -> Distill:
    """The block `distill` of a small training; changes of the student by their own names too."""
    student = {key: changes.pop(key) for key in _STUDENT if key in changes}
    return Distill.model_validate(_SETTINGS | {"student": _STUDENT | student} | changes)


def small_student(seed: int = 0, **changes: object) -> Student:
    """A small network with random weights."""
    torch.manual_seed(seed)
    return Student(small_config(**changes))


def nan_student() -> Student:
    """A sound network whose answers are NaN."""
    student = small_student()
    with torch.no_grad():
        student.fusion.head.bias.fill_(float("nan"))
    return student
