"""The bench measures a sound manifest and says so; a broken one is not a measurement."""

from __future__ import annotations

import pytest

from benchmarks.validation import bench_validation, made, plain_pass


def test_bench_measures_in_its_own_process() -> None:
    found = bench_validation(boxes=4_000, photos=1_000)
    assert found["passed"]
    assert (found["boxes"], found["photos"]) == (4_000, 1_000)
    assert found["boxes_per_s"] * found["seconds"] == pytest.approx(4_000)
    assert found["ratio_to_plain"] * found["plain_seconds"] - found["seconds"] < 1e-6
    assert 50 < found["peak_mb"] < 1_000


def test_the_plain_pass_looks_at_the_same_conditions() -> None:
    tables = made(100, 400)
    assert plain_pass(tables) == 0
    tables.boxes.loc[0, "x1"] = 600.0
    tables.boxes.loc[1, "x0"] = float("nan")
    tables.boxes.loc[2, "image_id"] = "nobody"
    tables.boxes.loc[4] = tables.boxes.loc[3]
    assert plain_pass(tables) == 5
