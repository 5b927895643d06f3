from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pseudo_label_support import scene, settings

from benchmarks.teacher import CALIBRATION, ROWS, SHEET, available, bench_teacher
from components.core.images import open_photo, save_grey, save_photo
from components.pseudo_label.registry import downloadable


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder pair with names like CASIA v1's."""
    root = tmp_path_factory.mktemp("pairs")
    for index in range(8):
        photo, mask, _ = scene(index)
        stem = f"Sp_D_CND_{'AR'[index % 2]}_pla{index:04d}_art{index:04d}_{index:04d}"
        save_photo(root / "Tp" / f"{stem}.png", photo)
        save_grey(root / "Gt" / f"{stem}_gt.png", mask.astype(np.uint8) * 255)
        save_photo(root / "Au" / f"Au_nat_{index:04d}.png", photo)
    return root


def test_figures_by_teacher_jitter_and_shape(folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = bench_teacher(
        folder, settings(), [0.0, 0.3], progress=lambda done, total: seen.append((done, total))
    )
    assert report["photos"] == 8
    assert seen[-1] == (8, 8)
    tight, loose = report["jitter"]["0"], report["jitter"]["0.3"]
    assert set(tight) == {"box", "grabcut", "sam_lite"}
    assert tight["box"]["all"]["n"] == 8
    assert tight["box"]["free"]["n"] == tight["box"]["geometric"]["n"] == 4
    assert loose["box"]["all"]["value"] < tight["box"]["all"]["value"]
    assert tight["grabcut"]["all"]["value"] > tight["box"]["all"]["value"]
    figure = tight["grabcut"]["all"]
    assert figure["low"] <= figure["value"] <= figure["high"]


def test_pictures_and_rows_of_the_chosen_teacher(folder: Path, tmp_path: Path) -> None:
    report = bench_teacher(folder, settings(), [0.1], out=tmp_path)
    rows = pd.read_parquet(tmp_path / ROWS)
    assert len(rows) == 8 * 3
    own = rows[rows["teacher"] == "grabcut"]
    figures = report["jitter"]["0.1"]["grabcut"]
    assert figures["all"]["value"] == pytest.approx(own["iou"].mean())
    bins = figures["calibration"]
    assert sum(part["n"] for part in bins) == 8
    assert [part["confidence"] for part in bins] == sorted(part["confidence"] for part in bins)
    for name in (CALIBRATION, SHEET):
        assert open_photo(tmp_path / name).std() > 10


def test_sample_is_the_same_every_time(folder: Path) -> None:
    first, second = (bench_teacher(folder, settings(), [0.1], limit=3) for _ in range(2))
    assert first == second
    assert first["photos"] == 3


def test_checkpoints_count_only_where_they_are_on_disk() -> None:
    assert available(settings()) == ["box", "grabcut", "sam_lite"]
    assert available(settings(teacher="vit_b", checkpoint="own.pth"))[-1] == "vit_b"
    path = downloadable("vit_l").path
    path.parent.mkdir(parents=True)
    with open(path, "wb") as file:
        file.truncate(downloadable("vit_l").size)
    assert available(settings()) == ["box", "grabcut", "sam_lite", "vit_l"]
