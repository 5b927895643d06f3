from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_students import small_settings

from benchmarks import ranking
from benchmarks.ranking import CALLED, HALF, LEFT_OUT, MISTAKES, MOVED, QUARTER, THIRD, plant
from components.core import params
from components.core.images import save_photo
from components.data.dataset import Dataset, load, save

ROOT = Path(__file__).parents[2]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """40 photos, two of three manipulated, each with a box; the first has two."""
    root, images, boxes = tmp_path / "made", [], []
    for number in range(40):
        save_photo(root / f"photos/{number}.png", np.full((60, 80, 3), number, np.uint8))
        label = "manipulated" if number % 3 else "authentic"
        name = {"file_name": f"{number}.png", "label": label}
        images.append({"id": number, "width": 80, "height": 60, **name})
        for _ in range((number % 3 > 0) + (number == 1)):
            box = {"id": len(boxes), "image_id": number, "category_id": 1}
            boxes.append(box | {"bbox": [5.0, 5.0, 20.0, 15.0]})
    save(Dataset(root, "made", "CC0", "made", "given", "grouped", images, boxes))
    return root


def _labels(root: Path) -> dict[str, tuple[str, list[list[float]]]]:
    dataset = load(root)
    return {
        image["file_name"]: (
            image["label"],
            [box["bbox"] for box in dataset.annotations if box["image_id"] == image["id"]],
        )
        for image in dataset.images
    }


def test_planted_mistakes_are_of_all_kinds_and_nothing_else_changes(made, tmp_path):
    wrong = plant(made, tmp_path / "copy", 0.15, 1)
    assert Counter(wrong.values()) == dict.fromkeys(MISTAKES, 2)
    before, after = _labels(made), _labels(tmp_path / "copy")
    assert {name for name in before if before[name] != after[name]} == set(wrong)
    for name, kind in wrong.items():
        label, boxes = after[name]
        if kind == CALLED:
            assert (before[name], label, len(boxes)) == (("authentic", []), "manipulated", 1)
        elif kind == MOVED:
            x, y, *size = boxes[0]
            assert size == [20.0, 15.0]
            assert x >= 25 or y >= 20
        else:
            assert len(boxes) == len(before[name][1]) - 1
            assert label == ("manipulated" if boxes else "authentic")


def test_the_same_seed_plants_the_same_mistakes(made, tmp_path):
    first, again, other = (plant(made, tmp_path / f"c{n}", 0.15, n // 2) for n in (2, 3, 4))
    assert first == again
    assert first != other


def test_recall_and_precision_count_the_first_tenth(made, tmp_path, monkeypatch):
    def doubts(copy, settings):
        wrong = plant(made, tmp_path / "again", 0.1, 1)
        found = [name for name, kind in wrong.items() if kind != LEFT_OUT]
        rest = [name for name in _labels(copy) if name not in found]
        return [type("Row", (), {"name": name}) for name in found + rest[::-1]]

    monkeypatch.setattr(ranking, "doubts", doubts)
    report = ranking.bench_doubt(made, tmp_path, params.load(ROOT / "params.yaml"), [1], 0.1)
    assert report["recall"]["mean"] == report["precision"]["mean"] == 0.75
    assert report["recall_by_kind"] == {MOVED: 1.0, CALLED: 1.0, LEFT_OUT: 0.0}


class _Course:
    """Students are what they learnt, ranked by number; results tell how many boxes."""

    def pool(self):
        return list(range(24))

    def student(self, boxes, seed):
        return sorted(boxes)

    def tested(self, student):
        return pd.DataFrame({"f1": [len(student) / 100], "group": ["g"], "learnt": [student]})

    def by_gain(self, student, boxes, seed):
        assert student == sorted(boxes)
        return [row for row in range(24) if row not in boxes]


def test_both_orders_start_alike_and_learn_as_many_boxes():
    found = ranking._run(_Course(), 3)
    learnt = {key: rows["learnt"][0] for key, rows in found.items()}
    assert {key: len(boxes) for key, boxes in learnt.items()} == {
        ("gain", QUARTER): 6,
        ("gain", THIRD): 8,
        ("gain", HALF): 12,
        ("random", QUARTER): 6,
        ("random", HALF): 12,
    }
    assert len(set(learnt["gain", QUARTER]) & set(learnt["random", QUARTER])) >= 3
    assert set(learnt["gain", QUARTER]) < set(learnt["gain", THIRD]) < set(learnt["gain", HALF])
    assert set(learnt["random", QUARTER]) < set(learnt["random", HALF])


def test_differences_are_paired_by_photo_and_by_seed():
    def result(*f1: float | None) -> pd.DataFrame:
        return pd.DataFrame({"f1": f1, "group": ["a", "b", "c"]}, index=["a", "b", "c"])

    gain = [result(0.5, 0.3, None), result(0.7, 0.3, None)]
    random = [result(0.4, 0.3, None), result(0.4, 0.1, None)]
    found = ranking._compared(gain, random, params.load(ROOT / "params.yaml"))
    assert (found["gain"], found["random"]) == pytest.approx((0.45, 0.3))
    assert found["by_seed"] == pytest.approx([0.05, 0.25])
    assert found["difference"]["value"] == pytest.approx(0.15)
    assert found["difference"]["n"] == 2


def test_trainings_of_different_sizes_have_about_the_same_steps():
    for photos in (60, 100, 400):
        wanted = ranking._for_steps(small_settings(batch=10), photos, 120, 5)
        assert 110 <= wanted.epochs * photos / 10 <= 130
        assert (wanted.seed, wanted.splices) == (5, 0)
