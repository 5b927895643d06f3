"""The growth of `iml score`: real, though small."""

from __future__ import annotations

from pathlib import Path

from small_students import small_student

from benchmarks.scoring import bench_listing, bench_scoring
from components.export.onnx import save


def test_a_growing_prefix_is_scored(tmp_path: Path) -> None:
    student = tmp_path / "student"
    student.mkdir()
    save(small_student(), student)
    rows = bench_scoring(student, 300, tmp_path / "out")
    assert rows["killed"] == {"same_bytes": True, "rows": 300}
    assert rows["300 photos"]["megabytes"] > 0
    assert set(rows["slope"]) == {"seconds", "megabytes"}


def test_a_list_of_any_length_is_held_in_part(tmp_path: Path) -> None:
    rows = bench_listing(30_000, tmp_path)
    assert list(rows) == ["300 keys", "3000 keys", "30000 keys"]
    small, _, large = (row["megabytes"] for row in rows.values())
    assert large < small + 10
