from __future__ import annotations

import numpy as np
import pytest

from components.pseudo_label import quality
from components.pseudo_label.candidates import BOX_PRIOR, Candidates

BOX = np.array([10.0, 10, 30, 30])


def block(x0: int, y0: int, x1: int, y1: int, value: float = 1.0) -> np.ndarray:
    mask = np.zeros((40, 40), np.float32)
    mask[y0:y1, x0:x1] = value
    return mask


def offer(*masks: np.ndarray, iou: list[float], stability: list[float]) -> Candidates:
    return Candidates(
        np.stack(masks)[None],
        np.array([iou], np.float32),
        np.array([stability], np.float32),
    )


def test_box_fit() -> None:
    assert quality.box_fit(block(10, 10, 30, 30) > 0, BOX) == 1
    half_outside = quality.box_fit(block(10, 10, 30, 50) > 0, BOX)
    assert half_outside == pytest.approx(2 / 3)
    assert quality.box_fit(block(10, 10, 20, 20) > 0, BOX) == pytest.approx(0.25)
    assert quality.box_fit(block(0, 0, 5, 5) > 0, BOX) == 0


def test_the_best_product_wins() -> None:
    good, part = block(11, 11, 29, 29), block(12, 12, 22, 24)
    chosen = quality.choose(offer(part, good, iou=[0.9, 0.8], stability=[0.9, 0.9]), BOX, np.nan)
    assert np.array_equal(chosen.mask, good)
    assert chosen.confidence == pytest.approx(0.8 * 0.9 * (18 / 20) ** 2)
    assert chosen.fallback is None
    unstable = offer(part, good, iou=[0.9, 0.8], stability=[0.9, 0.1])
    assert np.array_equal(quality.choose(unstable, BOX, np.nan).mask, part)


def test_prior_stands_in_for_a_missing_guess() -> None:
    one = offer(block(10, 10, 30, 30), iou=[np.nan], stability=[0.5])
    chosen = quality.choose(one, BOX, prior=0.6)
    assert chosen.confidence == pytest.approx(0.3)
    assert np.isnan(chosen.predicted_iou)


def test_a_calibrated_guess_is_the_confidence_as_it_stands() -> None:
    one = offer(block(12, 12, 28, 28), iou=[0.55], stability=[np.nan])
    chosen = quality.choose(one, BOX, np.nan, calibrated=True)
    assert chosen.confidence == pytest.approx(0.55)
    assert chosen.fallback is None


def test_a_calibrated_teacher_may_find_a_thin_object() -> None:
    thin = block(10, 18, 30, 20)
    chosen = quality.choose(offer(thin, iou=[0.6], stability=[np.nan]), BOX, np.nan, True)
    assert np.array_equal(chosen.mask, thin)
    nothing = offer(block(0, 0, 0, 0), iou=[0.9], stability=[np.nan])
    assert quality.choose(nothing, BOX, np.nan, True).fallback == "empty mask"


def test_a_calibrated_guess_below_the_boxs_worth_falls_back_with_its_reason() -> None:
    one = offer(block(12, 12, 28, 28), iou=[0.21], stability=[np.nan])
    chosen = quality.choose(one, BOX, np.nan, calibrated=True)
    assert np.array_equal(chosen.mask, block(10, 10, 30, 30))
    assert chosen.fallback == "expected IoU is 0.21"
    assert chosen.confidence == BOX_PRIOR


@pytest.mark.parametrize(
    ("mask", "why"),
    [
        (block(0, 0, 0, 0), "empty"),
        (block(0, 0, 40, 40, 0.49), "empty"),
        (block(31, 31, 40, 40), "empty"),
        (block(10, 10, 18, 18), "16%"),
    ],
)
def test_degenerate_masks_fall_back_to_the_drawn_box(mask: np.ndarray, why: str) -> None:
    chosen = quality.choose(offer(mask, iou=[0.99], stability=[0.99]), BOX, np.nan)
    assert np.array_equal(chosen.mask, block(10, 10, 30, 30))
    assert why in (chosen.fallback or "")
    assert chosen.confidence == BOX_PRIOR


def test_union_over_boxes() -> None:
    other = np.array([0.0, 0, 10, 10])
    stream = [
        offer(block(10, 10, 30, 30, 0.8), iou=[0.9], stability=[1.0]),
        offer(block(0, 0, 0, 0), iou=[0.9], stability=[1.0]),
    ]
    made = quality.union(stream, np.stack([BOX, other]), np.nan)
    assert made.mask[20, 20] == 204
    assert made.mask[5, 5] == 255
    assert made.mask[35, 35] == 0
    assert made.fallback == "box"
    assert made.reason == "1 of 2 boxes: empty mask"
    assert made.predicted_iou == pytest.approx(0.9)
    assert made.confidence == pytest.approx((0.9 * 400 + BOX_PRIOR * 100) / 500)


def test_every_box_needs_its_answer() -> None:
    with pytest.raises(ValueError, match="longer"):
        quality.union([], np.stack([BOX]), np.nan)


def test_candidates_refuse_arrays_that_do_not_belong_together() -> None:
    with pytest.raises(ValueError, match="float32"):
        Candidates(np.zeros((1, 1, 4, 4)), np.zeros((1, 1)), np.zeros((1, 1)))
    with pytest.raises(ValueError, match="predicted_iou"):
        Candidates(np.zeros((2, 1, 4, 4), np.float32), np.zeros((1, 1)), np.zeros((2, 1)))
