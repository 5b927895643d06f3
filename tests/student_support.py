"""Small students, built once."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from collections.abc import Callable

import pytest
import torch
from small_students import small_settings

from components.core.params import Distill
from components.student.model import Student, build, configure

_LARGER = {"channels": 16, "prototypes": 8}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def settings() -> Callable[..., Distill]:
    return lambda **changes: small_settings(**_LARGER | changes)


@pytest.fixture
def make(settings) -> Callable[..., Student]:
    """A student of random weights, whose batch norms have seen something."""

    def build_one(**changes: object) -> Student:
        torch.manual_seed(0)
        student = build(configure(settings(**changes).student), "none")
        student.train()
        with torch.no_grad():
            for _ in range(3):
                student(torch.rand(4, 3, 64, 64))
        return student.eval()

    return build_one
