from __future__ import annotations

from pathlib import Path

from benchmarks import data as bench
from components.core.files import sha256_file
from components.data import dataset


def test_the_made_photos_are_distinct_and_a_real_data_set(tmp_path: Path) -> None:
    paths = bench.make_photos(tmp_path / "made", 40)
    assert len({sha256_file(path) for path in paths}) == 40
    assert len({path.stat().st_ino for path in paths}) == 40
    loaded = dataset.load(tmp_path / "made")
    assert len(loaded.images) == 40
    assert len(loaded.annotations) == 20


def test_the_bench_measures_both_in_one_run(tmp_path: Path) -> None:
    found = bench.bench_prepare(24, tmp_path)
    assert found["photos"] == 24
    assert found["bare_seconds"] > 0
    assert found["ratio"] == found["bare_seconds"] / found["prepare_seconds"]
