"""Treatments do what they say, at their size; the block holds every level asked for."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from components.core.errors import InputError
from components.core.files import read_json
from components.core.params import Evaluate, Robustness, parse
from components.evaluate import report
from components.evaluate.robustness import TREATMENTS, blur, jpeg, noise, resize, robustness, social
from components.evaluate.run import Progress


@pytest.fixture
def photo() -> np.ndarray:
    draw = np.random.default_rng(0)
    coarse = draw.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("name", TREATMENTS)
def test_every_treatment_is_repeatable_and_leaves_its_input(photo, name) -> None:
    level = {"jpeg": 50, "blur": 7, "noise": 11.0, "resize": 0.5, "social": 60}[name]
    kept = photo.copy()
    first, second = (TREATMENTS[name](level, photo) for _ in range(2))
    assert np.array_equal(first, second)
    assert np.array_equal(photo, kept)
    assert first.dtype == np.uint8
    assert not np.array_equal(first, photo)


def test_strength_follows_the_level(photo) -> None:
    def distance(found: np.ndarray) -> float:
        return float(np.abs(found.astype(float) - photo).mean())

    assert distance(jpeg(50, photo)) > distance(jpeg(90, photo)) > 0
    assert distance(blur(23, photo)) > distance(blur(3, photo)) > 0
    flat = np.full((200, 300, 3), 128, np.uint8)
    assert noise(23.0, flat).astype(float).var() == pytest.approx(23, rel=0.05)
    assert jpeg(100, photo)[..., 0].mean() == pytest.approx(photo[..., 0].mean(), abs=1)


def test_sizes(photo) -> None:
    assert resize(0.5, photo).shape == (60, 80, 3)
    assert social(75, photo).shape == photo.shape
    assert social(75, np.zeros((1500, 3000, 3), np.uint8)).shape == (540, 1080, 3)
    assert resize(0.5, np.zeros((1, 9, 3), np.uint8)).shape == (1, 4, 3)


@pytest.fixture
def levels(params) -> Evaluate:
    some = Robustness(jpeg=[90, 20], blur=[], noise=[4.0], resize=[0.5], social=[75])
    return params.model_copy(update={"robustness": some})


def test_block_holds_every_level(make_dataset, red_channel, levels) -> None:
    images, root = make_dataset(manipulated=5, authentic=4, size=(60, 80))
    words: list[str] = []
    block = robustness(red_channel, images, root, levels, lambda text: words.append(text))
    assert {name: list(part) for name, part in block.items()} == {
        "jpeg": ["90", "20"],
        "noise": ["4"],
        "resize": ["0.5"],
        "social": ["75"],
    }
    assert words == ["jpeg 90", "jpeg 20", "noise 4", "resize 0.5", "social 75"]
    for part in block.values():
        for found in part.values():
            assert set(found) == {"f1", "auc", "image_auc", "false_alarm_area"}
            assert found["f1"]["n"] == 5
            assert found["false_alarm_area"]["n"] == 4
    assert block["noise"]["4"]["f1"]["value"] > 0.95
    assert 0.5 < block["resize"]["0.5"]["f1"]["value"] < 1


def test_it_stands_in_report_and_metrics(
    make_dataset, make_album, red_channel, levels, tmp_path
) -> None:
    images, root = make_dataset()
    told: list[tuple[str, int, int]] = []

    def progress(part: str) -> Progress:
        return lambda done, total: told.append((part, done, total))

    about, out = {"Data": "x"}, tmp_path / "o"
    result = report.produce(red_channel, make_album(images, root), levels, about, out, progress)
    n = len(images)
    parts = ["evaluate", "jpeg 90", "jpeg 20", "noise 4", "resize 0.5", "social 75"]
    assert told == [(part, done, n) for part in parts for done in range(1, n + 1)]
    stored = read_json(tmp_path / "o/metrics.json")
    assert stored == result.metrics
    assert stored["robustness"]["jpeg"]["20"]["f1"]["value"] is not None
    page = (tmp_path / "o/report.html").read_text()
    assert "Robustness" in page
    assert 'width="200" height="170" role="img" aria-label="noise"' in page  # two points
    assert 'width="272" height="170" role="img" aria-label="jpeg"' in page  # three


def test_an_even_blur_kernel_is_refused() -> None:
    values = yaml.safe_load((Path(__file__).parents[3] / "params.yaml").read_text())
    values["evaluate"]["robustness"]["blur"] = [4]
    with pytest.raises(InputError, match=r"evaluate\.robustness\.blur: a blur kernel must be odd"):
        parse(values)
