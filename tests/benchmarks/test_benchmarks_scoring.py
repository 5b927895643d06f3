"""The growth of `iml score`: real, though small."""

from __future__ import annotations

from pathlib import Path

from small_students import small_student

from benchmarks.scoring import bench_scoring
from components.export.onnx import save


def test_a_growing_prefix_is_scored(tmp_path: Path) -> None:
    student = tmp_path / "student"
    student.mkdir()
    save(small_student(), student)
    rows = bench_scoring(student, 300, tmp_path / "out")
    assert rows["killed"] == {"same_bytes": True, "rows": 300}
    assert rows["300 photos"]["megabytes"] > 0
    assert set(rows["slope"]) == {"seconds", "megabytes"}
