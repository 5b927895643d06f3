from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from components.core.errors import ImlError, InputError
from components.core.metrics import image_metrics
from components.core.seeds import fix_torch
from components.data.manifest import Manifest
from components.distill import trainer
from components.distill.batches import epoch_batches
from components.distill.cache import decoded
from components.distill.calibration import calibrate
from components.distill.progress import Epoch, Validation
from components.distill.state import State, average, begin, finished, note
from components.distill.trainer import schedule, train, train_step, validate
from components.student.infer import probabilities
from components.student.model import build, configure
from components.student.store import weights_bytes


class Silent:
    def __init__(self, stop_after=None):
        self.stop_after, self.rows, self.resumed, self.steps = stop_after, [], None, 0

    def start(self, epoch, epochs, steps):
        self.resumed = epoch

    def step(self, loss):
        self.steps += 1

    def epoch(self, row):
        self.rows.append(row)
        if row["epoch"] == self.stop_after:
            raise KeyboardInterrupt


@pytest.fixture
def data(made, tmp_path, settings):
    examples = made.examples()
    return decoded(examples, settings(), tmp_path / "arrays")


@pytest.fixture
def run(data, tmp_path):
    """Train a fresh student in a folder; give student, result and watcher."""

    def once(params, name="a", stop_after=None, dropout=False):
        fix_torch(params.seed, 1)
        student = build(configure(params.student), params.student.weights)
        if dropout:
            student.fusion.base.append(torch.nn.Dropout2d(0.5))
        folder, watcher = tmp_path / name, Silent(stop_after)
        folder.mkdir(exist_ok=True)
        return student, train(student, data, params, folder, watcher), watcher

    return once


def outcome(state):
    """What a training came to, beside its weights."""
    return state.history, state.best_epoch


def test_learns_a_trivial_task_from_the_package_weights(run, data, settings):
    params = settings(epochs=12, weights="package", channels=16)
    fix_torch(1, 1)
    untrained = validate(build(configure(params.student), "package"), data)["val_f1"]
    student, trained, _ = run(params)
    curve = trained.history
    assert curve[-1]["train_loss"] < 0.5 * curve[0]["train_loss"]
    best = max(curve, key=lambda row: row["val_f1"] - row["val_false_alarm_area"])
    assert best["val_f1"] > max(0.7, 2 * untrained)
    assert best["val_false_alarm_area"] < 0.1
    assert best["epoch"] == trained.best_epoch
    assert not student.training
    assert best["val_f1_best"] >= max(best["val_f1"], best["val_f1_at_1_percent"])
    # The student carries the best epoch, not the last.
    assert validate(student, data).items() <= best.items()


def test_a_student_is_validated_at_three_thresholds_that_hold_for_all_photos(data, settings):
    torch.manual_seed(1)
    student = build(configure(settings().student), "none").eval()
    photos = [data.photo(row)[0] for row in data.val]
    with torch.no_grad():  # answers on both sides of each threshold
        student.fusion.head.bias.zero_()
        student.fusion.head.weight.mul_(10)
        logits = [
            torch.logit(torch.from_numpy(m), 1e-6).mean() for m in probabilities(student, photos)
        ]
        student.fusion.head.bias.sub_(torch.stack(logits).mean())
    found = validate(student, data)
    pairs = [data.photo(row) for row in data.val]
    maps = probabilities(student, [photo for photo, _ in pairs])
    truth = [mask > 127 for _, mask in pairs]
    table = []
    for level in np.arange(1, 257) / 256:
        rows = [image_metrics(*pair, level) for pair in zip(maps, truth, strict=True)]
        table.append([np.nanmean([r[key] for r in rows]) for key in ("f1", "false_alarm_area")])
    f1, alarms = np.array(table).T
    assert found["val_f1"] == pytest.approx(f1[127])
    assert found["val_false_alarm_area"] == pytest.approx(alarms[127])
    assert found["val_f1_best"] == pytest.approx(f1.max())
    assert found["val_f1_at_1_percent"] == pytest.approx(f1[alarms <= 0.01][0])
    assert found["val_f1_best"] > found["val_f1"] > 0
    assert found["val_false_alarm_area"] > 0.01  # so that the third threshold is another one


@pytest.mark.parametrize(("dropout", "ema"), [(False, 0.0), (True, 0.9)])
def test_interrupted_equals_uninterrupted(run, settings, dropout, ema):
    """Dropout stands for whatever a backbone draws from torch's own generator."""
    params = settings(ema=ema)
    whole, expected, _ = run(params, "whole", dropout=dropout)
    with pytest.raises(KeyboardInterrupt):
        run(params, "parts", stop_after=1, dropout=dropout)
    again, trained, watcher = run(params, "parts", dropout=dropout)
    assert watcher.resumed == 1
    assert outcome(trained) == outcome(expected)
    assert weights_bytes(again) == weights_bytes(whole)


def _after(*curve):
    """The state after epochs of these validation F1 and losses."""
    tiny = torch.nn.Linear(1, 1)
    state = State(tiny, tiny, None, [], {}, 0)
    for epoch, (f1, loss, *area) in enumerate(curve, start=1):
        found = Validation(
            val_loss=loss,
            val_f1=f1,
            val_f1_best=f1,
            val_f1_at_1_percent=f1,
            val_false_alarm_area=sum(area),
        )
        note(state, Epoch(epoch=epoch, train_loss=1.0, **found, lr=1.0))
    return state


def test_best_is_the_highest_f1_less_false_alarms_then_the_lowest_loss_then_the_first():
    def best(*curve):
        return _after(*curve).best_epoch

    assert best((0.1, 0.1), (0.3, 0.9), (0.2, 0.1)) == 2
    assert best((0.27, 0.4, 0.13), (0.24, 0.2, 0.02), (0.25, 0.2, 0.04)) == 2
    assert best((0.0, 0.9), (0.0, 0.5), (0.0, 0.7)) == 2
    assert best((0.2, 0.5), (0.2, 0.5)) == 1


def test_patience_ends_it_and_zero_never_does(settings):
    curve = [(0.5, 1.0), (0.4, 1.0), (0.4, 1.0)]
    for patience, done in ((0, False), (1, True), (2, True), (3, False)):
        assert finished(_after(*curve), settings(epochs=9, patience=patience)) == done
    assert finished(_after(*curve), settings(epochs=3))


def test_early_stop_writes_what_it_has(run, settings):
    student, trained, _ = run(settings(epochs=30, patience=1, learning_rate=1e-6))
    assert len(trained.history) < 30
    assert trained.best_epoch == len(trained.history) - 1
    again, same, watcher = run(settings(epochs=30, patience=1, learning_rate=1e-6))
    assert watcher.steps == 0
    assert outcome(same) == outcome(trained)
    assert weights_bytes(again) == weights_bytes(student)


def test_mean_of_the_weights_follows_them(settings):
    torch.manual_seed(0)
    state = begin(build(configure(settings().student), "none"), settings(ema=0.9))
    first = {name: value.clone() for name, value in state.mean.state_dict().items()}
    with torch.no_grad():
        for parameter in state.student.parameters():
            parameter.add_(1.0)
    average(state, 0.9, step=0)  # a tenth of the way stays: (1 + 0) / (10 + 0)
    name = "fusion.head.weight"
    torch.testing.assert_close(state.mean.state_dict()[name], first[name] + 0.9)
    average(state, 0.9, step=10_000)
    torch.testing.assert_close(state.mean.state_dict()[name], first[name] + 0.91)
    assert begin(state.student, settings(ema=0.0)).mean is state.student


def test_finished_training_is_read_back_not_repeated(run, settings):
    first, expected, _ = run(settings(epochs=2))
    again, trained, watcher = run(settings(epochs=2))
    assert watcher.steps == 0
    assert outcome(trained) == outcome(expected)
    assert weights_bytes(again) == weights_bytes(first)


def test_damaged_checkpoint_costs_an_epoch_not_the_result(run, settings, tmp_path, capsys):
    first, _, _ = run(settings())
    path = tmp_path / "a/epoch-0003.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    again, _, watcher = run(settings())
    assert watcher.resumed == 2
    assert weights_bytes(again) == weights_bytes(first)
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("batch", "said"),
    [(4, r"the loss of epoch 2, step \d is \w+"), (10, "the student's answer to a photo is nan")],
)
def test_a_broken_step_is_one_line_and_keeps_what_was_there(run, settings, tmp_path, batch, said):
    with pytest.raises(KeyboardInterrupt):
        run(settings(batch=batch), stop_after=1)
    broken = settings(batch=batch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "schedule", lambda step, steps: 1e30)
        with pytest.raises(ImlError, match=said) as caught:
            run(broken)
    assert "\n" not in caught.value.line()
    assert (tmp_path / "a/epoch-0001.json").exists()


def test_every_validation_mask_empty(run, data, settings, monkeypatch):
    empty = np.zeros_like(data.masks)
    object.__setattr__(data, "masks", empty)
    with pytest.raises(InputError, match="every pseudo-mask of the validation photos is empty"):
        run(settings(epochs=1))


def test_an_epoch_is_every_training_photo_once(data, settings):
    params = settings(augment=False, batch=4, size=96)
    photos = [photo for part in epoch_batches(data, params, 1) for photo in part.photos]
    assert len(photos) == 10
    keys = [round(float(photo.mean()), 6) for photo in photos]
    assert len(set(keys)) == 10
    assert [len(part.photos) for part in epoch_batches(data, params, 1)] == [4, 3, 3]
    first, second = (
        torch.cat([part.photos for part in epoch_batches(data, params, e)]) for e in (1, 2)
    )
    assert not torch.equal(first, second)
    assert sorted(keys) == sorted(round(float(photo.mean()), 6) for photo in second)


def test_authentic_photos_are_all_zero_targets_and_weigh_one(data, settings):
    empty = []
    for part in epoch_batches(data, settings(augment=False), 1):
        for target, weight in zip(part.targets, part.weights, strict=True):
            empty += [weight.item()] if target.sum() == 0 else []
    assert empty == [1.0] * 5


def test_schedule_warms_up_then_falls_to_nothing():
    rates = [schedule(step, 100) for step in range(100)]
    assert rates[:5] == sorted(rates[:5])
    assert max(rates) == rates[5] == 1
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert 0 < rates[-1] < 0.01
    assert 0 < schedule(0, 1) <= 1


def test_backbone_learns_at_its_own_rate(run, settings):
    fix_torch(3, 1)
    start = build(configure(settings().student), "none").state_dict()
    student, _, _ = run(settings(backbone_rate=0.0, epochs=1))
    after = student.state_dict()
    frozen = [name for name, _ in student.named_parameters() if name.startswith("backbone.")]
    assert all(torch.equal(after[name], start[name]) for name in frozen)
    assert not torch.equal(after["fusion.head.weight"], start["fusion.head.weight"])


def test_no_authentic_photo_is_no_hindrance_but_sets_no_threshold(made, tmp_path, settings):
    frame = made.manifest.images
    only = Manifest(frame[frame["label"] == "manipulated"].reset_index(drop=True), frame[:0])
    data = decoded(
        dataclasses.replace(made, manifest=only).examples(), settings(), tmp_path / "only"
    )
    student = build(configure(settings().student), "none")
    trained = train(student, data, settings(epochs=1), tmp_path, Silent())
    assert np.isfinite(trained.history[0]["train_loss"])
    calibrate(student, data)
    assert student.config.image_threshold is None


def test_bfloat16_follows_float32(data, settings):
    losses = []
    for amp in (False, True):
        torch.manual_seed(0)
        params = settings(amp=amp)
        state = begin(build(configure(params.student), "none"), params)
        batch = next(iter(epoch_batches(data, params, 1)))
        losses.append(train_step(state.student.train(), state.optimiser, batch, params))
        assert all(value.dtype == torch.float32 for value in state.student.parameters())
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
