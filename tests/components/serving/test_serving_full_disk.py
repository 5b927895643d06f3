"""Scores that do not fit: one line, and the same command goes on when there is room."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from components.core.errors import exit_on_error
from components.serving.inference import Limits
from components.serving.origin import Origin, Student
from components.serving.predictor import Predictor
from components.serving.score import Summary, score
from components.serving.sources import open_source

LIMITS = Limits(side=32, quality=30)


def test_scores_that_do_not_fit_are_one_line_and_go_on_later(
    predictor: Predictor,
    small_disk: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(6):
        noise = np.random.default_rng(number).integers(0, 255, (96, 128, 3), dtype=np.uint8)
        Image.fromarray(noise).save(photos / f"{number}.png")
    out = small_disk("64k") / "out"
    origin = Origin.of(Student(Path("cached"), "m", 1), predictor.weights_sha256)

    def run() -> Summary:
        place = partial(open_source, str(photos), out)
        return score(place, predictor, out, "desk", origin, LIMITS)

    with pytest.raises(SystemExit) as caught, exit_on_error():
        run()
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {out}/")
    assert "No space left on device; free some space" in line
    small_disk("8m")
    run()
    assert sorted(pd.read_parquet(out / "scores.parquet")["name"]) == sorted(
        path.name for path in photos.iterdir()
    )
