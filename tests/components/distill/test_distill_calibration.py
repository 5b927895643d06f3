from __future__ import annotations

import numpy as np
import pytest
import torch

from components.core.metrics import image_score
from components.distill.cache import decoded
from components.distill.calibration import _binned, best_threshold, calibrate, fit_temperature
from components.student import infer
from components.student.infer import probabilities
from components.student.model import build, configure


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_finds_the_temperature_that_made_the_labels(true):
    draw = np.random.default_rng(0)
    logit = draw.normal(-2, 3, 200_000)
    label = draw.random(logit.shape) < 1 / (1 + np.exp(-logit / true))
    probability = (1 / (1 + np.exp(-logit))).astype(np.float32)
    assert fit_temperature(*_binned(probability, label)) == pytest.approx(true, rel=0.03)


def test_threshold_by_hand():
    scores = np.array([0.1, 0.2, 0.3, 0.6, 0.7, 0.8])
    assert best_threshold(scores, scores > 0.5) == pytest.approx(0.45)
    truth = np.array([False, True, False, False, True, True])
    assert best_threshold(scores, truth) == pytest.approx(0.65)  # 2/3 caught, all passed
    assert best_threshold(np.full(4, 0.5), np.array([True, False, True, False])) == 0
    assert best_threshold(scores, np.ones(6, bool)) is None


def test_threshold_is_set_with_copies_and_temperature_without(
    made, settings, tmp_path, monkeypatch
):
    data = decoded(made.examples(), settings(), tmp_path / "arrays")
    told = settings().student.model_copy(update={"copies": True})
    torch.manual_seed(0)
    student = build(configure(told), "none").eval()
    first = student.config
    calibrate(student, data)
    temperature, student.config = student.config.temperature, first
    monkeypatch.setattr(infer, "joined", lambda found, photo: np.maximum(found, 0.75))
    calibrate(student, data)
    assert student.config.temperature == temperature
    scores = student.config.validation_scores
    assert min(*scores.authentic.kept, *scores.manipulated.kept) >= 0.75


def test_student_is_calibrated_and_no_pixel_crosses_a_half(made, settings, tmp_path):
    examples = made.examples()
    data = decoded(examples, settings(), tmp_path / "arrays")
    torch.manual_seed(0)
    student = build(configure(settings().student), "none").eval()
    with torch.no_grad():
        student.fusion.head.weight.mul_(20)  # far too sure of itself
    photos = [data.photo(row)[0] for row in data.val]
    before = probabilities(student, photos)
    calibrate(student, data)
    assert student.config.temperature > 1
    after = probabilities(student, photos)
    for old, new in zip(before, after, strict=True):
        # Enlarging the map can move a pixel that lay on the line itself.
        assert ((old > 0.5) == (new > 0.5)).mean() > 0.98
    scores = np.array([image_score(found) for found in after])
    wanted = best_threshold(scores, data.manipulated[data.val])
    assert student.config.image_threshold == pytest.approx(wanted, abs=1e-6)
    kept = student.config.validation_scores
    assert (kept.side, kept.jpeg_quality) == (data.photos.shape[1], (70, 95))
    for part, known in ((kept.manipulated, True), (kept.authentic, False)):
        theirs = sorted(scores[data.manipulated[data.val] == known])
        assert part.n == len(theirs) > 0
        assert part.kept == pytest.approx(theirs, abs=1e-6)
