"""Small students, built once."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from collections.abc import Callable

import pytest
import torch

from components.params import Distill
from components.student.model import Student, build, configure

SETTINGS = {
    "seed": 3,
    "threads": 1,
    "backbone": "tf_efficientnet_lite0",
    "weights": "none",
    "size": 64,
    "channels": 16,
    "prototypes": 8,
    "alpha": "learned",
    "gates": True,
    "dual_guidance": True,
    "frontend": "none",
    "view": "resize",
    "overlap": 0.25,
    "zoom": 1.5,
    "device": "cpu",
    "amp": False,
    "epochs": 2,
    "patience": 0,
    "batch": 8,
    "learning_rate": 0.001,
    "backbone_rate": 0.3,
    "weight_decay": 0.01,
    "ema": 0.0,
    "loss": {"confidence": True, "dice": 1.0, "boundary": 0.0},
    "augment": True,
    "splices": 0.0,
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def settings() -> Callable[..., Distill]:
    return lambda **changes: Distill.model_validate(SETTINGS | changes)


@pytest.fixture
def make(settings) -> Callable[..., Student]:
    """A student of random weights, whose batch norms have seen something."""

    def build_one(**changes: object) -> Student:
        torch.manual_seed(0)
        student = build(configure(settings(**changes)), "none")
        student.train()
        with torch.no_grad():
            for _ in range(3):
                student(torch.rand(4, 3, 64, 64))
        return student.eval()

    return build_one
