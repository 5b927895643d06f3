"""Reliability, its error and the call on the whole photo, against known answers."""

from __future__ import annotations

import os
import tracemalloc
import weakref
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from components.core.stream import BATCH
from components.evaluate import run
from components.evaluate.calibration import (
    BINS,
    BinSums,
    Calibration,
    balanced_accuracy,
    calibration_block,
    reliability,
)
from components.evaluate.run import evaluate
from components.evaluate.statistics import Bootstrap, of_sums

BOOTSTRAP = Bootstrap(resamples=200, confidence=0.9, seed=3)


def _photos(sharpness: float, count: int = 6) -> list[tuple[np.ndarray, np.ndarray]]:
    """Maps whose logits are `sharpness` times the ones that made the truth."""
    draw, photos = np.random.default_rng(0), []
    for number in range(count):
        logit = draw.normal(-1, 2, (60 + 20 * number, 80))
        truth = draw.random(logit.shape) < 1 / (1 + np.exp(-logit))
        photos.append(((1 / (1 + np.exp(-sharpness * logit))).astype(np.float32), truth))
    return photos


def _block(photos, temperature: float = 1.0) -> dict:
    sums = BinSums()
    for number, photo in enumerate(photos):
        sums.add(number, reliability(*photo, temperature))
    return calibration_block(sums, BOOTSTRAP, Calibration(temperature))


def test_true_probabilities_have_no_error_and_others_have() -> None:
    assert _block(_photos(1.0))["ece"]["value"] < 0.01
    assert _block(_photos(3.0))["ece"]["value"] > 0.05
    block = _block(_photos(3.0))["ece"]
    assert block["low"] <= block["value"] <= block["high"]
    assert block["n"] == 6


def test_error_is_the_textbook_sum() -> None:
    (photo,) = _photos(2.0, count=1)
    prob, truth = photo[0].ravel(), photo[1].ravel()
    place = np.minimum((prob * BINS).astype(int), BINS - 1)
    expected = sum(
        (place == b).mean() * abs(prob[place == b].mean() - truth[place == b].mean())
        for b in np.unique(place)
    )
    assert _block([photo])["ece"]["value"] == pytest.approx(expected, abs=1e-6)


def test_without_its_temperature_a_model_is_as_it_was() -> None:
    """Maps divided by 3 in logits come back: their raw error is that of the sharp ones."""
    sharp, cooled = _block(_photos(3.0)), _block(_photos(1.0), temperature=3.0)
    raw = cooled["calibration"]["ece_without_temperature"]
    assert raw["value"] == pytest.approx(sharp["ece"]["value"], abs=1e-3)
    assert cooled["ece"]["value"] < 0.01


def test_bins_are_shares_of_all_pixels_whatever_the_photos_size() -> None:
    rows = _block(_photos(1.0))["calibration"]["bins"]
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    for row in rows:
        assert row["from"] <= row["probability"] <= row["to"] + 1e-6
    only = _block([(np.zeros((4, 4), np.float32), np.zeros((4, 4), bool))])["calibration"]["bins"]
    assert [row["manipulated"] for row in only] == [0.0] + [None] * (BINS - 1)


def test_summed_as_they_come_they_are_number_for_number_what_all_of_them_give() -> None:
    draw, sums = np.random.default_rng(4), BinSums()
    groups = draw.integers(0, 12, 60)
    bins = [reliability(draw.random((9, 7), np.float32), draw.random((9, 7)) < 0.3, 2.0)
            for _ in groups]  # fmt: skip
    for group, photo in zip(groups, bins, strict=True):
        sums.add(group, photo)
    block, stacked = calibration_block(sums, BOOTSTRAP, Calibration(2.0)), np.stack(bins)

    def error(held: np.ndarray) -> np.ndarray:
        weight, prob, truth = np.split(held, 3, axis=1)
        return np.abs(prob - truth).sum(axis=1) / weight.sum(axis=1)

    for part, found in enumerate((block["ece"], block["calibration"]["ece_without_temperature"])):
        rows = stacked[:, part].reshape(len(bins), -1)
        assert found == of_sums(rows, groups, error, BOOTSTRAP).as_dict()
        assert found["low"] < found["value"] < found["high"]
    shares = [row["share"] for row in block["calibration"]["bins"]]
    assert shares == stacked[:, 0].mean(axis=0)[0].tolist()


def test_no_photo_with_a_known_truth_gives_null() -> None:
    block = calibration_block(BinSums(), BOOTSTRAP, Calibration())
    assert block["ece"] == {"value": None, "low": None, "high": None, "n": 0}
    assert {row["share"] for row in block["calibration"]["bins"]} == {0.0}


def _kept(photos: int) -> int:
    """Bytes that the bins of so many photos of five source groups leave behind."""
    tracemalloc.start()
    try:
        sums = BinSums()
        for number in range(photos):
            sums.add(f"group{number % 5}", np.full((2, 3, BINS), 0.5))
        assert sums.photos == photos
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_what_is_kept_does_not_grow_with_photos_of_the_same_groups() -> None:
    _kept(5)  # what Python keeps for itself after the first time
    assert _kept(5000) < _kept(50) + 720


class _Seen(np.ndarray):
    """An array that weak references can follow."""

    __hash__ = object.__hash__


def test_an_evaluation_keeps_no_photos_bins(
    make_dataset: Callable, red_channel: Callable, params, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[_Seen]] = []
    held: list[int] = []

    def watched(*photo: object) -> np.ndarray:
        bins = reliability(*photo).view(_Seen)
        made.append(weakref.ref(bins))
        return bins

    monkeypatch.setattr(run, "reliability", watched)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    images, root = make_dataset(manipulated=80, authentic=80)
    evaluate(
        red_channel, images, root, params,
        lambda done, total: held.append(sum(one() is not None for one in list(made))),
    )  # fmt: skip
    assert len(made) == 160
    assert max(held) <= 6 * BATCH  # those that wait for two cores, and the last


def test_balanced_accuracy_agrees_with_scikit_learn() -> None:
    draw = np.random.default_rng(1)
    truth = draw.random(90) < 0.3
    scores = np.clip(draw.normal(0.4 + 0.2 * truth, 0.2), 0, 1)
    found = balanced_accuracy(scores, truth, np.arange(90) // 3, 0.5, BOOTSTRAP)
    assert found.value == pytest.approx(balanced_accuracy_score(truth, scores > 0.5))
    assert found.low < found.value < found.high
    assert balanced_accuracy(scores, truth, np.arange(90), None, BOOTSTRAP).value is None
    assert balanced_accuracy(scores, np.ones(90, bool), np.arange(90), 0.5, BOOTSTRAP).value is None


def test_it_stands_in_the_metrics(make_dataset, red_channel, params) -> None:
    images, root = make_dataset()
    block = evaluate(
        red_channel, images, root, params, calibration=Calibration(2.0, image_threshold=0.5)
    ).metrics
    assert block["balanced_accuracy"]["value"] == 1
    assert block["ece"]["n"] == 7
    assert block["calibration"]["temperature"] == 2.0
    assert evaluate(red_channel, images, root, params).metrics["balanced_accuracy"]["value"] is None
