"""The treatments themselves; how strong they are is their users' business."""

from __future__ import annotations

import numpy as np

from components.synthesis import degrade


def test_noise_is_rounded_and_stays_in_range() -> None:
    photo = np.array([[[0, 100, 255]]], np.uint8)
    assert degrade.noisy(photo, np.array([-3.0, 0.6, 9.0])).tolist() == [[[0, 101, 255]]]


def test_smaller_keeps_the_shape_and_at_least_a_pixel() -> None:
    photo = np.full((30, 40, 3), 7, np.uint8)
    assert degrade.smaller(photo, 0.5).shape == (15, 20, 3)
    assert degrade.smaller(photo, 0.001).shape == (1, 1, 3)


def test_jpeg_keeps_channels_apart_and_loses_more_at_low_quality() -> None:
    photo = np.zeros((32, 32, 3), np.uint8)
    photo[..., 0] = np.arange(32) * 8
    lost = [np.abs(degrade.recompress(photo, q).astype(int) - photo).mean() for q in (20, 95)]
    assert lost[0] > lost[1]
    assert degrade.recompress(photo, 95)[..., 0].mean() > 100
