"""Variants of a photo: asked one after another, overlap at the photo's own size."""

from __future__ import annotations

import numpy as np

from components.serving.predictor import Predictor
from components.serving.stability import _overlap, recompressed, smaller, variants
from components.synthesis import degrade


def test_each_variant_is_the_predictors_own_answer(predictor: Predictor) -> None:
    photo = np.random.default_rng(0).integers(0, 255, (130, 170, 3), dtype=np.uint8)
    (found,) = predictor.predict([photo])
    rows = variants(photo, found, predictor, 0.0)
    assert [row.name for row in rows] == [
        *(f"saved as JPEG, quality {quality}" for quality in (95, 85, 75, 60)),
        "sides at 75 %",
        "sides at 50 %",
    ]
    for row, treated in (
        (rows[3], recompressed(photo, 60)),
        (rows[5], smaller(photo, 0.5)),
    ):
        (answer,) = predictor.predict([treated])
        assert row.score == round(answer.score, 6)
        assert row.area == answer.area
    assert all(row.above for row in rows)
    assert not any(row.above for row in variants(photo, found, predictor, 1.0))
    assert {row.above for row in variants(photo, found, predictor, None)} == {None}
    assert {row.unsuitable for row in rows} == {None}


def test_a_variant_that_gets_too_small_says_so(predictor: Predictor, photo: np.ndarray) -> None:
    larger = np.tile(photo, (2, 2, 1))  # 100x140
    (found,) = predictor.predict([larger])
    reasons = [row.unsuitable for row in variants(larger, found, predictor, None)]
    assert reasons == [None] * 5 + ["too small (70x50)"]
    (found,) = predictor.predict([photo])  # which is too small itself, as the page says
    assert {row.unsuitable for row in variants(photo, found, predictor, None)} == {None}


def test_photos_lose_what_the_degrader_of_training_takes_from_them() -> None:
    random = np.random.default_rng(0)
    photo = random.integers(0, 255, (16, 24, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    for ours, theirs in (
        (recompressed(photo, 60), degrade.recompress(photo, 60)),
        (smaller(photo, 0.5), degrade.smaller(photo, 0.5)),
    ):
        assert ours.shape == theirs.shape
        assert np.abs(ours.astype(int) - theirs).mean() < 1.5
    assert smaller(photo[:1, :3], 0.5).shape == (1, 2, 3)


def test_overlap_by_hand() -> None:
    region = np.zeros((40, 60), dtype=bool)
    assert _overlap(region, np.zeros((20, 30), np.float32)) is None
    region[:20, :30] = True
    assert _overlap(region, np.zeros((20, 30), np.float32)) == 0
    half = np.zeros((20, 30), np.float32)
    half[:10, :15] = 1
    assert (_overlap(region, half) or 0) > 0.95
    same = region.astype(np.float32)
    same[:20, 30:] = 1
    assert _overlap(region, same) == 0.5
