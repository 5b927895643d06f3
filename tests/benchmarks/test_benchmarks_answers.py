"""The benchmark of answers finds what differs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_students import small_student

from benchmarks.answers import bench_answers
from components.core.errors import InputError
from components.export.onnx import save as export


def test_both_answer_alike_and_another_student_does_not(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    (tmp_path / "photos/more").mkdir(parents=True)
    for name in ("photos/a.png", "photos/more/b.png", "photos/c.png"):
        pixels = random.integers(0, 256, (70, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    student = small_student().eval()
    export(student, tmp_path / "student")
    found = bench_answers(tmp_path / "student", tmp_path / "photos", 2)
    assert found["photos"] == 2
    assert 0 < found["probability"] < 1e-4
    assert found["score"] < 1e-4
    assert found["same_mask_bytes"] > 0.99
    with pytest.raises(InputError, match="no photos"):
        bench_answers(tmp_path / "student", tmp_path / "student")
