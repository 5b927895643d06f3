"""Evaluation over a data set: numbers, order, edge classes, bad input, memory."""

from __future__ import annotations

import json
import os
import signal
import threading
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from small_students import small_student

from components.core.errors import InputError
from components.core.images import save_grey, save_photo
from components.core.params import Evaluate
from components.data.manifest import read_table, write_table
from components.evaluate.run import IMAGES, Evaluation, Judge, evaluate
from components.export.onnx import save
from components.student.runtime import Runtime


def test_numbers_of_a_known_answer(make_dataset, red_channel, params) -> None:
    images, root = make_dataset(manipulated=4, authentic=3)
    done: list[tuple[int, int]] = []
    result = evaluate(red_channel, images, root, params, lambda *step: done.append(step))
    assert done == [(number, 7) for number in range(1, 8)]
    assert result.images["image_id"].tolist() == images["image_id"].tolist()
    assert list(result.images.columns) == IMAGES.names
    block = result.metrics
    for name, value in [("f1", 1), ("iou", 1), ("auc", 1), ("false_alarm_area", 0)]:
        assert block[name]["value"] == value
    assert block["image_auc"] == {"value": 1, "low": 1, "high": 1, "n": 7}
    assert block["imdlbenco_f1"]["value"] == pytest.approx(4 / 7, abs=1e-6)
    assert block["imdlbenco_f1"]["n"] == 7
    assert (block["n_manipulated"], block["n_authentic"], block["n_without_mask"]) == (4, 3, 0)
    assert set(block["groups"]) == {"splice/free", "copy-move/geometric"}
    assert block["groups"]["splice/free"]["f1"]["n"] == 2


def test_rows_of_means_agree_with_the_block(make_dataset, params) -> None:
    images, root = make_dataset(manipulated=5, authentic=5)
    random = np.random.default_rng(0)
    result = evaluate(
        lambda photos: [random.random(p.shape[:2], dtype=np.float32) for p in photos],
        images,
        root,
        params,
    )
    rows, block = result.images, result.metrics
    manipulated = rows["label"] == "manipulated"
    for name in ("f1", "iou", "auc"):
        assert block[name]["value"] == pytest.approx(rows.loc[manipulated, name].mean())
        assert block[name]["low"] <= block[name]["value"] <= block[name]["high"]
        assert rows.loc[~manipulated, name].isna().all()
    assert block["false_alarm_area"]["value"] == pytest.approx(
        rows.loc[~manipulated, "area"].mean()
    )
    assert rows.loc[manipulated, "false_alarm_area"].isna().all()


def test_the_operating_points_are_those_of_all_photos_with_intervals(make_dataset, params) -> None:
    images, root = make_dataset(manipulated=6, authentic=6)
    random = np.random.default_rng(0)
    block = evaluate(
        lambda photos: [random.random(p.shape[:2], dtype=np.float32) ** 2 for p in photos],
        images,
        root,
        params,
    ).metrics
    best, few, fixed = (block[name] for name in ("f1_best", "f1_at_1_percent", "f1"))
    (half,) = [row for row in block["thresholds"] if row["threshold"] == 0.5]
    assert half["f1"] == pytest.approx(fixed["value"], abs=1e-6)
    assert half["false_alarm_area"] == pytest.approx(block["false_alarm_area"]["value"], abs=1e-6)
    assert best["value"] >= max(row["f1"] for row in block["thresholds"])
    assert best["value"] > fixed["value"] > few["value"] > 0
    assert best["threshold"] < 0.5 < few["threshold"]
    assert 0.005 < few["false_alarm_area"] <= 0.01 < best["false_alarm_area"]
    for point in (best, few):
        assert point["low"] < point["value"] < point["high"]
        assert point["n"] == 6
    # Chosen again in each resample, the best threshold is never worse than the one of all photos.
    assert best["high"] - best["value"] > 0


def test_result_is_the_same_twice(make_dataset, red_channel, params) -> None:
    images, root = make_dataset()
    first, second = (evaluate(red_channel, images, root, params) for _ in range(2))
    assert first.metrics == second.metrics
    assert first.images.equals(second.images)


@pytest.fixture
def judged(make_dataset, params, tmp_path) -> Callable[..., Evaluation]:
    """Evaluates a small student, which can travel, on 80 photos; takes `progress`."""
    images, root = make_dataset(manipulated=60, authentic=20, size=(70, 90))
    save(small_student(), tmp_path / "student")
    predict = Runtime(tmp_path / "student", params.threads).probabilities
    return partial(evaluate, predict, images, root, params)


def test_the_figures_are_those_of_one_worker(judged, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for way, cores in [("threads", {0}), ("threads", {0, 1}), ("processes", {0, 1})]:
        monkeypatch.setattr(Judge, "way", way)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: cores)
        result = judged()
        found.append((json.dumps(result.metrics), result.images.to_json(double_precision=15)))
    assert found[0] == found[1] == found[2]


def test_a_worker_killed_midway_changes_no_figure(judged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Judge, "way", "processes")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    killed: list[int] = []

    def kill(done: int, total: int) -> None:
        if not killed:
            children = psutil.Process().children()
            (worker, _) = [one for one in children if "spawn_main" in str(one.cmdline())]
            worker.kill()
            killed.append(worker.wait())

    whole, cut = judged(), judged(kill)
    assert killed == [-signal.SIGKILL]
    assert whole.metrics == cut.metrics
    assert whole.images.equals(cut.images)


def test_one_class_only_gives_null_not_nan(make_dataset, red_channel, params) -> None:
    images, root = make_dataset(manipulated=3, authentic=0)
    block = evaluate(red_channel, images, root, params).metrics
    assert block["false_alarm_area"] == {"value": None, "low": None, "high": None, "n": 0}
    assert block["image_auc"]["value"] is None
    assert block["f1_best"]["value"] == 1
    none = dict.fromkeys(("value", "low", "high", "threshold", "false_alarm_area"))
    assert block["f1_at_1_percent"] == {**none, "n": 3}
    images, root = make_dataset(manipulated=0, authentic=3)
    block = evaluate(red_channel, images, root, params).metrics
    assert block["f1"]["value"] is None
    assert block["f1_best"] == block["f1_at_1_percent"] == {**none, "n": 0}
    assert block["groups"] == {}
    json.dumps(block, allow_nan=False)


def test_photos_without_a_usable_mask_are_counted_and_left_out(
    make_dataset, red_channel, params
) -> None:
    images, root = make_dataset(manipulated=4, authentic=2)
    images.loc[0, "mask_path"] = None
    save_grey(root / images.loc[1, "mask_path"], np.zeros((24, 32), dtype=np.uint8))
    result = evaluate(red_channel, images, root, params)
    assert result.metrics["n_without_mask"] == 2
    assert result.metrics["n_manipulated"] == 4
    assert result.metrics["f1"]["n"] == 2
    assert result.metrics["image_auc"]["n"] == 6
    assert result.metrics["false_alarm_area"]["n"] == 2
    assert result.images["f1"].isna().tolist() == [True, True, False, False, True, True]


def test_table_survives_parquet_with_nulls(make_dataset, red_channel, params, tmp_path) -> None:
    images, root = make_dataset()
    rows = evaluate(red_channel, images, root, params).images
    write_table(tmp_path / "images.parquet", rows, IMAGES)
    back = read_table(tmp_path / "images.parquet", IMAGES)
    assert back["f1"].isna().equals(rows["f1"].isna())
    assert back["score"].equals(rows["score"])


def _changed(images, root: Path) -> None:
    save_photo(root / images.loc[2, "path"], np.zeros((24, 32, 3), dtype=np.uint8))


def _gone(images, root: Path) -> None:
    (root / images.loc[2, "path"]).unlink()


def _small_mask(images, root: Path) -> None:
    save_grey(root / images.loc[2, "mask_path"], np.full((24, 31), 255, dtype=np.uint8))


def _outside(images, root: Path) -> None:
    images.loc[2, "path"] = "../photos/m002.png"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_changed, "not the photo of the manifest"),
        (_gone, "no such file"),
        (_small_mask, "mask is 31x24, its photo 32x24"),
        (_outside, "leaves this folder"),
    ],
)
def test_bad_data_is_one_clear_line(make_dataset, red_channel, params, damage, message) -> None:
    images, root = make_dataset()
    damage(images, root)
    with pytest.raises(InputError, match=message):
        evaluate(red_channel, images, root, params)


def test_no_photos(make_dataset, red_channel, params) -> None:
    images, root = make_dataset()
    with pytest.raises(InputError, match="no photos"):
        evaluate(red_channel, images.iloc[:0], root, params)


@pytest.mark.parametrize(
    "answer",
    [
        lambda photo: np.full(photo.shape[:2], np.nan, dtype=np.float32),
        lambda photo: np.full(photo.shape[:2], 7, dtype=np.float32),
        lambda photo: np.zeros((8, 8), dtype=np.float32),
    ],
    ids=["nan", "logit", "size"],
)
def test_unusable_answers_name_the_photo(make_dataset, params, answer: Callable) -> None:
    images, root = make_dataset()
    with pytest.raises(InputError, match=r"m000\.png: the model's answer is unusable"):
        evaluate(lambda photos: [answer(photo) for photo in photos], images, root, params)


def test_failure_leaves_no_threads(make_dataset, params) -> None:
    images, root = make_dataset(manipulated=40, authentic=0)

    def fail(photos: object) -> list[np.ndarray]:
        raise RuntimeError("out of order")

    before = threading.active_count()
    with pytest.raises(RuntimeError, match="out of order"):
        evaluate(fail, images, root, params)
    assert threading.active_count() == before


def _peak(images, root: Path, params: Evaluate, predict: Callable) -> int:
    tracemalloc.start()
    try:
        evaluate(predict, images, root, params)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_photos(make_dataset, red_channel, params) -> None:
    """200 photos of 0.06 megapixels hold 36 MB decoded; what is held at a time must not follow."""
    images, root = make_dataset(manipulated=200, authentic=0, size=(200, 300))
    few = _peak(images.iloc[:50], root, params, red_channel)  # two batches, and more
    many = _peak(images, root, params, red_channel)
    assert many < 1.25 * few


def test_slices_split_the_manipulated_photos(make_dataset, red_channel, params) -> None:
    images, root = make_dataset(manipulated=10, authentic=2)
    for number in range(10):  # areas of 80 to 350 pixels; the answer stays the 80
        mask = np.zeros((24, 32), dtype=np.uint8)
        mask[4:12, 6:16] = 255
        mask[14:20, 1 : 1 + 5 * (number // 2)] = 255
        save_grey(root / images.loc[number, "mask_path"], mask)
    slices = evaluate(red_channel, images, root, params).metrics["slices"]
    assert {name: set(part) for name, part in slices.items()} == {
        "method": {"splice", "copy-move"},
        "shape": {"free", "geometric"},
        "area": {"1", "2", "3", "4", "5"},
    }
    fifths = [slices["area"][str(number)] for number in range(1, 6)]
    assert [part["f1"]["n"] for part in fifths] == [2] * 5
    values = [part["f1"]["value"] for part in fifths]
    assert values == sorted(values, reverse=True)
    assert values[0] == 1
    assert fifths[0]["from"] == pytest.approx(80 / 768)
    assert slices["method"]["splice"]["f1"]["n"] == 5
