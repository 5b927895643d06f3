from __future__ import annotations

from pathlib import Path

from benchmarks import importing as bench
from components.core.files import sha256_file
from components.data import dataset


def test_the_bench_imports_distinct_photos_with_boxes(tmp_path: Path) -> None:
    found = bench.bench_import(30, tmp_path)
    assert found["photos"] == 30
    assert found["ratio"] == found["import_seconds"] / found["bare_seconds"]
    assert found["peak_mb"] >= found["start_mb"] > 0
    made = dataset.load(tmp_path / "made0")
    assert (len(made.images), len(made.annotations)) == (30, 30)
    photos = list((tmp_path / "made0/photos").rglob("*.jpg"))
    assert len({sha256_file(path) for path in photos}) == 30
    assert all(path.stat().st_nlink == 4 for path in photos)  # the source's and three imports'
