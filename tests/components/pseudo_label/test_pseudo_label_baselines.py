from __future__ import annotations

import cv2
import numpy as np
import pytest
from pseudo_label_support import predict, scene, settings

from components.core.errors import InputError
from components.pseudo_label.quality import pseudo_mask
from components.pseudo_label.registry import build, specs


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_box_is_the_filled_box_without_margin() -> None:
    photo, _, box = scene(0)
    teacher = build(settings(teacher="box", margin=0.5))
    made = pseudo_mask(teacher, photo, box)
    x0, y0, x1, y1 = box[0].astype(int)
    assert (made.mask[y0:y1, x0:x1] == 255).all()
    assert (made.mask > 0).sum() == (x1 - x0) * (y1 - y0)
    assert made.fallback is None
    assert made.confidence == teacher.prior


def test_the_recorded_hash_is_that_of_name_and_settings_alone() -> None:
    earlier = "21f65e9c347328677867b01c2b26804103fc5f1f21d02f7ff2c53b413bc365b0"
    assert build(settings(teacher="box")).sha256 == earlier


def test_grabcut_finds_the_object_and_beats_the_box() -> None:
    cut, filled = build(settings()), build(settings(teacher="box"))
    for seed in range(4):
        photo, mask, box = scene(seed)
        found = pseudo_mask(cut, photo, box).mask > 127
        assert iou(found, mask) > 0.9
        assert iou(found, mask) > iou(pseudo_mask(filled, photo, box).mask > 127, mask) + 0.1


def test_predict_gives_the_promised_arrays() -> None:
    photo, _, box = scene(1)
    answer = predict(build(settings()), photo, np.concatenate([box, box / 2]))
    assert answer.probability.shape == (2, 1, 96, 128)
    assert answer.probability.dtype == np.float32
    assert np.isnan(answer.predicted_iou).all()
    assert ((answer.stability >= 0) & (answer.stability <= 1)).all()


def test_grabcut_is_deterministic_whatever_came_before() -> None:
    teacher = build(settings())
    random = np.random.default_rng(0)  # busy photos: what comes out depends on the draws
    photos = random.integers(0, 256, (6, 12, 16, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    box = np.array([[30.0, 20, 100, 80]])
    first = [predict(teacher, photo, box).probability for photo in photos]
    cv2.setRNGSeed(1234)
    again = [predict(teacher, photo, box).probability for photo in photos[::-1]][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_large_crops_are_shrunk_and_come_back_at_native_size() -> None:
    photo, mask, box = scene(4)
    big = photo.repeat(10, axis=0).repeat(10, axis=1)
    made = pseudo_mask(build(settings()), big, box * 10)
    assert made.mask.shape == (960, 1280)
    assert iou(made.mask > 127, mask.repeat(10, axis=0).repeat(10, axis=1)) > 0.9


@pytest.mark.parametrize(
    "box",
    [[40, 40, 41, 41], [40.2, 40.2, 40.4, 40.4], [0, 0, 128, 96]],
    ids=["one pixel", "less than a pixel", "whole photo"],
)
def test_box_that_leaves_nothing_to_separate(box: list[float]) -> None:
    photo, _, _ = scene(5)
    boxes = np.array([box], float)
    made = pseudo_mask(build(settings()), photo, boxes)
    filled = pseudo_mask(build(settings(teacher="box")), photo, boxes)
    assert np.array_equal(made.mask, filled.mask)
    assert made.fallback == "box"


def test_fifty_boxes_on_one_photo() -> None:
    photo, _, _ = scene(6)
    x, y = np.meshgrid(np.arange(0, 120, 12.0), np.arange(0, 90, 18.0))
    boxes = np.stack([x.ravel(), y.ravel(), x.ravel() + 10, y.ravel() + 14], axis=1)
    assert len(boxes) == 50
    made = pseudo_mask(build(settings()), photo, boxes)
    for x0, y0, x1, y1 in boxes.astype(int):
        assert made.mask[y0:y1, x0:x1].any()


def test_grey_photo() -> None:
    photo, mask, box = scene(7)
    grey = photo[:, :, :1].repeat(3, axis=2)
    assert iou(pseudo_mask(build(settings()), grey, box).mask > 127, mask) > 0.9


def test_flat_photo_falls_back() -> None:
    made = pseudo_mask(
        build(settings()), np.full((60, 60, 3), 9, np.uint8), np.array([[10.0, 10, 40, 40]])
    )
    assert (made.mask > 127).sum() == 900


def test_identity_changes_with_the_algorithm_only() -> None:
    a, b = build(settings(margin=0.0)), build(settings(margin=0.2))
    assert a.sha256 == b.sha256
    assert a.sha256 != build(settings(teacher="box")).sha256


def test_unknown_teacher_lists_the_known() -> None:
    with pytest.raises(InputError, match=", ".join(specs())):
        build(settings(teacher="nobody"))
