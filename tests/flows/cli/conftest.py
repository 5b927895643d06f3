"""What tests of commands that use a model start from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small_students import small_student

from components.export.onnx import save

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def student_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("student")
    save(small_student(), folder)
    return folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml, to stand in."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
