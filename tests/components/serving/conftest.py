"""A small student on disk, with random weights: real files, real network, quick to load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_students import nan_student, small_student

from components.export.onnx import save
from components.serving.predictor import Predictor


@pytest.fixture(scope="session")
def student_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("student")
    save(small_student(), folder)
    return folder


@pytest.fixture(scope="session")
def predictor(student_folder: Path) -> Predictor:
    return Predictor(student_folder)


@pytest.fixture(scope="session")
def broken_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student whose files agree with each other and whose answers are NaN."""
    folder = tmp_path_factory.mktemp("broken")
    save(nan_student(), folder)
    return folder


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)
