"""A small student on disk, with random weights: real files, real network, quick to load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from components.serving.predictor import Predictor
from components.student import store
from components.student.config import StudentConfig
from components.student.model import Student


@pytest.fixture(scope="session")
def student_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = StudentConfig(
        backbone="mobilenetv3_small_050",
        size=64,
        channels=8,
        prototypes=4,
        alpha="learned",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )
    folder = tmp_path_factory.mktemp("student")
    store.save(Student(config), folder)
    return folder


@pytest.fixture(scope="session")
def predictor(student_folder: Path) -> Predictor:
    return Predictor(student_folder)


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)
