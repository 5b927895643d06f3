from __future__ import annotations

import numpy as np
import pytest

from components.core.errors import InputError
from components.pseudo_label import prompts


def test_margin_is_a_share_of_each_side_and_is_clipped() -> None:
    boxes = np.array([[10.0, 20, 30, 60], [0, 0, 50, 80]])
    wide = prompts.expand(boxes, 0.1, width=50, height=80)
    assert wide.tolist() == [[8, 16, 32, 64], [0, 0, 50, 80]]


def test_box_partly_outside_is_cut() -> None:
    assert prompts.expand(np.array([[-5.0, 2, 5, 9]]), 0, 20, 8).tolist() == [[0, 2, 5, 8]]


@pytest.mark.parametrize(
    "box",
    [
        [5, 5, 5, 9],
        [9, 5, 5, 9],
        [np.nan, 0, 5, 5],
        [0, 0, np.inf, 5],
        [20, 0, 25, 5],
        [-9, 0, 0, 5],
    ],
)
def test_unusable_box_is_named(box: list[float]) -> None:
    with pytest.raises(InputError, match="box"):
        prompts.expand(np.array([[0, 0, 5, 5], box], float), 0.05, 20, 20)


def test_no_box_is_refused() -> None:
    with pytest.raises(InputError, match="no box"):
        prompts.expand(np.zeros((0, 4)), 0.05, 20, 20)


def test_pixels_are_those_whose_centres_are_covered_and_at_least_one() -> None:
    assert prompts.pixels(np.array([1.4, 1.6, 4.4, 4.6]), 10, 10) == (1, 2, 4, 5)
    assert prompts.pixels(np.array([3.1, 3.1, 3.2, 3.2]), 10, 10) == (3, 3, 4, 4)
    assert prompts.pixels(np.array([9.8, 9.8, 10, 10]), 10, 10) == (9, 9, 10, 10)
    assert prompts.fill(np.array([2.0, 1, 5, 3]), 10, 10).sum() == 6


def test_prompt_hash_changes_with_any_box() -> None:
    boxes = np.array([[1.0, 2, 3, 4]])
    assert prompts.prompt_sha256(boxes) == prompts.prompt_sha256(boxes.copy())
    assert prompts.prompt_sha256(boxes) != prompts.prompt_sha256(np.nextafter(boxes, 9))
