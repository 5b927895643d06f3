from __future__ import annotations

from student_support import make, one_thread, settings  # noqa: F401

from benchmarks import student as bench


def test_student_and_backbone_are_timed_in_one_run(settings, monkeypatch):
    monkeypatch.setattr(bench, "SIZE", 64)
    monkeypatch.setattr(bench, "_ROUNDS", 2)
    found = bench.bench_student(["mobilenetv3_large_100"], settings())
    assert set(found) == {"size", "threads", "copies_seconds", "mobilenetv3_large_100"}
    assert found["copies_seconds"] > 0
    row = found["mobilenetv3_large_100"]
    assert 2_900_000 < row["parameters"] < 3_200_000
    assert 0.2 < row["gmac_at_224"] < 0.4
    assert row["backbone_seconds"] > 0
    assert row["ratio"] == row["student_seconds"] / row["backbone_seconds"]
    assert row["onnx_seconds"] > 0
