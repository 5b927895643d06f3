"""Drift: equal distributions are none, shifted ones are, and the page says the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browsers import Pages

from components.core.errors import InputError
from components.serving.drift import compare, read, render


def scored(photos: int, shift: float = 0.0, seed: int = 1) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "score": random.beta(2, 5, photos) * (1 - shift) + shift,
            "area": random.beta(1, 20, photos),
            "width": random.choice([640.0, 1024.0], photos),
        }
    )


def test_the_same_source_of_photos_is_no_drift() -> None:
    false = [bool(compare(scored(400), scored(400, seed=2 + s)).drifted) for s in range(50)]
    assert sum(false) <= 1


def test_shifted_scores_are_drift_and_nothing_else_is() -> None:
    found = compare(scored(300), scored(300, shift=0.3, seed=2))
    assert found.drifted == ["score"]
    assert found.columns[0].medians[1] > found.columns[0].medians[0]
    json.dumps(found.row(), allow_nan=False)


def test_many_photos_make_no_drift_of_a_trifle() -> None:
    found = compare(scored(50_000), scored(50_000, shift=0.02, seed=2))
    assert found.columns[0].p < 0.01
    assert found.drifted == []


def test_too_few_photos_are_refused() -> None:
    with pytest.raises(InputError, match="fewer than 30"):
        compare(scored(300), scored(29))


def test_the_page_is_whole_and_harmless(tmp_path: Path, browse: Pages) -> None:
    before, now = scored(100), scored(100, shift=0.3, seed=2)
    page = render(compare(before, now), before, now)
    assert "drift in score" in page
    assert "iml annotate PHOTOS --into DATASET --order gain" in page
    assert page.count('class="pair"') == 60
    assert "<script" not in page
    (tmp_path / "drift.html").write_text(page)
    assert browse.fits(tmp_path / "drift.html")
    assert "http://" not in page


def test_tables_and_folders_are_read_alike(tmp_path: Path) -> None:
    frame = scored(5)
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_csv(tmp_path / "a.csv", index=False)
    for number, row in enumerate(frame.to_dict("records")):
        text = json.dumps({**row, "photo": f"{number}.jpg"})
        (tmp_path / f"{number}.json").write_text(text)
    (tmp_path / ".5a.json").write_text("{")  # what a kill left half written
    pd.testing.assert_frame_equal(read(tmp_path / "a.parquet"), frame)
    pd.testing.assert_frame_equal(read(tmp_path / "a.csv"), frame)
    pd.testing.assert_frame_equal(read(tmp_path)[frame.columns], frame)
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "none.parquet")
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="score"):
        read(tmp_path / "bad.csv")
