"""The load of a server: real, though short."""

from __future__ import annotations

from pathlib import Path

from small_students import small_student

from benchmarks.serving import bench_serving
from components.export.onnx import save


def test_a_server_is_loaded(tmp_path: Path) -> None:
    student = tmp_path / "student"
    student.mkdir()
    save(small_student(), student)
    rows = bench_serving(student, 8, 2, 4, tmp_path)
    assert set(rows["statuses"]) == {"200"}
    assert rows["lost"] == 0
    assert rows["ratio"] > 0
    assert rows["ms"]["p50"] <= rows["ms"]["p95"] <= rows["ms"]["p99"]
