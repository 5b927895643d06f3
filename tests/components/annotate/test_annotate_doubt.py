"""Labels that are probably wrong: the evidence, the folds, and a whole run on a small data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from distill_support import steady_torch  # noqa: F401
from small_students import small_settings

from components.annotate import doubt
from components.annotate.doubt import FOLDS, Evidence, doubts, evidence, of_authentic, of_boxes
from components.annotate.photos import Photo
from components.annotate.ranking import Labelled, rank
from components.core import params
from components.core.errors import InputError
from components.core.files import read_json, write_json
from components.core.images import save_photo
from components.core.paths import DISTILL_CACHE, state_dir
from components.data.dataset import INDEX, Dataset, save
from components.data.manifest import AUTHENTIC, MANIPULATED

ROOT = Path(__file__).parents[3]
MOVED, CALLED, LEFT_OUT = "p00.png", "p01.png", "p02.png"


@pytest.fixture
def settings() -> params.Params:
    """Filled boxes for pseudo-masks, and a student that learns bright squares in seconds."""
    all_ = params.load(ROOT / "params.yaml")
    return all_.model_copy(
        update={
            "distill": small_settings(epochs=8),
            "pseudo_label": all_.pseudo_label.model_copy(update={"teacher": "box"}),
        }
    )


def _annotation(number: int, box: list[float]) -> dict:
    return {"id": number, "image_id": number, "category_id": 1, "bbox": box}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """36 photos of grey noise, every second one with a bright square and a box; 3 labels wrong."""
    root, images, boxes = tmp_path / "made", [], []
    for number in range(36):
        draw = np.random.default_rng(number)
        photo = draw.integers(60, 110, (80, 96, 3), dtype=np.uint8)
        label, name = AUTHENTIC, f"p{number:02}.png"
        if number % 2 == 0:
            x, y = (int(place) for place in draw.integers(2, 40, 2))
            photo[y : y + 30, x : x + 30] += 120
            label = MANIPULATED
            boxes.append(_annotation(number, [x - 1, y - 1, 32, 32]))
            if name == MOVED:
                boxes[-1]["bbox"] = [64 if x < 30 else 0, y, 30, 30]
            if name == LEFT_OUT:
                boxes.pop()
                label = AUTHENTIC
        if name == CALLED:
            label = MANIPULATED
            boxes.append(_annotation(number, [30, 20, 32, 32]))
        save_photo(root / "photos" / name, photo)
        images.append({"id": number, "file_name": name, "width": 96, "height": 80, "label": label})
    save(Dataset(root, "made", "CC0", "made", "given", "grouped", images, boxes))
    return root


def _map(*spots: tuple[int, int, int, int]) -> np.ndarray:
    """A map of 100x100: 0.1, and 0.9 in each spot (x0, y0, x1, y1)."""
    found = np.full((100, 100), 0.1, np.float32)
    for x0, y0, x1, y1 in spots:
        found[y0:y1, x0:x1] = 0.9
    return found


def test_evidence_tells_inside_and_outside_of_the_boxes_apart():
    box = np.array([[20.0, 20.0, 40.0, 40.0]])
    for spots, inside, outside in (
        ([(25, 25, 38, 38)], 0.9, 0.1),
        ([(70, 70, 90, 90)], 0.1, 0.9),
        ([], 0.1, 0.1),
        ([(18, 18, 42, 42)], 0.9, 0.1),  # a rim round the box is not outside
    ):
        found = evidence("a", _map(*spots), box, 0.7)
        assert found[1:] == pytest.approx((inside, outside, 0.7))


def test_evidence_of_several_boxes_is_that_of_the_worst():
    boxes = np.array([[20.0, 20.0, 40.0, 40.0], [60.0, 60.0, 80.0, 80.0]])
    assert evidence("a", _map((20, 20, 40, 40)), boxes, 1.0).inside == pytest.approx(0.1)


def test_boxes_are_doubted_by_student_and_teacher_whatever_their_scales():
    photos = [
        Evidence("sound", 0.8, 0.1, 0.93),
        Evidence("both", 0.1, 0.6, 0.91),
        Evidence("student", 0.2, 0.1, 0.94),
        Evidence("teacher", 0.9, 0.1, 0.92),
    ]
    found = {row.name: row for row in of_boxes(photos)}
    assert found["both"].value == 1.0
    assert found["sound"].value == min(row.value for row in found.values())
    assert found["student"].reason == "the student finds little inside the box"
    assert found["teacher"].reason == (
        "the box fits no object edge (the teacher's confidence is 0.92)"
    )


def test_a_box_is_more_doubtful_where_the_student_finds_something_elsewhere():
    photos = [Evidence("elsewhere", 0.4, 0.95, 0.9), Evidence("nothing", 0.2, 0.1, 0.9)]
    photos += [Evidence("found", 0.9, 0.1, 0.9)]
    found = sorted(of_boxes(photos), key=lambda row: -row.value)
    assert [row.name for row in found] == ["elsewhere", "nothing", "found"]


def test_a_teacher_without_an_opinion_leaves_it_to_the_student():
    photos = [Evidence(str(n), n / 10, 0.5, 0.45) for n in range(10)]
    found = of_boxes(photos)
    assert [row.name for row in sorted(found, key=lambda row: -row.value)] == list("0123456789")
    assert found[0].reason == "the student finds a region outside every box, and little inside"


def test_authentic_photos_are_doubted_by_their_score():
    found = of_authentic([Evidence("a", 1, 0.2, 1), Evidence("b", 1, 0.7, 1)])
    assert [(row.name, row.value) for row in found] == [("a", 0.5), ("b", 1.0)]
    assert found[1].reason == "authentic, but the student finds a region (score 0.70)"
    assert of_authentic([]) == of_boxes([]) == []


def test_wrong_labels_come_first_each_with_its_reason(made, settings, steady_torch):
    told = []
    found = doubts(made, settings, lambda done, total: told.append((done, total)))
    assert told == [(done, 36) for done in range(1, 37)]
    assert len(found) == len({row.name for row in found}) == 36
    assert {row.name for row in found[:3]} == {MOVED, CALLED, LEFT_OUT}
    reasons = {row.name: row.reason for row in found}
    assert reasons[MOVED].startswith("the student finds a region outside every box")
    assert reasons[CALLED].startswith("the student finds")
    assert reasons[LEFT_OUT].startswith("authentic, but the student finds a region")
    values = [row.value for row in found]
    assert values == sorted(values, reverse=True)
    assert all(0 <= value <= 1 for value in values)
    _look_again(made, settings, found)


def _look_again(made, settings, first):
    """With nothing changed nothing is trained, and the result is the same, by `rank` too."""
    trained = {path: path.stat().st_mtime_ns for path in _checkpoints()}
    photos = [Photo(row.name, lambda: b"") for row in first]
    again = rank(photos[::-1], "doubt", None, 0, labelled=Labelled(made, settings))
    assert [tuple(vars(row).values()) for row in again] == [tuple(row) for row in first]
    assert {path: path.stat().st_mtime_ns for path in _checkpoints()} == trained


def _checkpoints() -> list[Path]:
    return sorted((state_dir() / DISTILL_CACHE).glob("*/epoch-*.safetensors"))


def test_a_stopped_run_keeps_the_folds_that_were_trained(made, settings, steady_torch):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    short = settings.model_copy(
        update={"distill": small_settings(epochs=1, backbone="mobilenetv3_small_050")}
    )
    with pytest.raises(KeyboardInterrupt):
        doubts(made, short, stop)
    (first,) = _checkpoints()
    when = first.stat().st_mtime_ns
    doubts(made, short)
    assert first.stat().st_mtime_ns == when
    assert len(_checkpoints()) == FOLDS


def test_no_student_has_learnt_what_it_judges(made, settings, steady_torch, monkeypatch):
    learnt, asked = [], []
    real = doubt.trained

    def trained(data, learn, select, *others):
        learnt.append((set(learn.tolist()), set(select.tolist())))
        return real(data, learn, select, *others)

    def answers(student, photos):
        asked.extend([len(learnt)] * len(photos))
        return [np.zeros(photo.shape[:2], np.float32) for photo in photos]

    monkeypatch.setattr(doubt, "trained", trained)
    monkeypatch.setattr(doubt, "network", answers)
    doubts(
        made,
        settings.model_copy(
            update={"distill": small_settings(epochs=1, backbone="mobilenetv3_small_050")}
        ),
    )
    assert asked == sorted(asked)
    assert len(asked) == 36
    for number, (learn, select) in enumerate(learnt, 1):
        assert not learn & select
        assert len(learn | select) == 36 - asked.count(number)
    assert set.union(*(learn | select for learn, select in learnt)) == set(range(36))


def test_groups_stay_in_one_fold_and_few_are_refused():
    groups = pd.Series([f"g{n // 3}" for n in range(30)])
    folds = doubt._folds(groups, 7)
    assert (pd.Series(folds).groupby(groups).nunique() == 1).all()
    assert sorted(set(folds)) == list(range(FOLDS))
    with pytest.raises(InputError, match="2 source groups are too few"):
        doubt._folds(pd.Series(["a", "b"]), 7)


def test_a_photo_that_cannot_be_read_comes_last_and_one_without_a_box_first(
    made, settings, steady_torch
):
    (made / "photos/p05.png").write_bytes(b"no photo")
    index = read_json(made / INDEX)
    index["annotations"] = [row for row in index["annotations"] if row["image_id"] != 4]
    write_json(made / INDEX, index)
    found = doubts(
        made,
        settings.model_copy(
            update={"distill": small_settings(epochs=1, backbone="mobilenetv3_small_050")}
        ),
    )
    assert (found[0].name, found[0].reason) == ("p04.png", "manipulated, but without a box")
    assert (found[-1].name, found[-1].value) == ("p05.png", 0.0)
    assert found[-1].reason
