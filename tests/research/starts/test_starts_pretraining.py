"""Composites to pre-train on, and the pre-training itself, on pictures made in the test."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from components.core.errors import InputError
from components.core.files import read_json, sha256_file
from components.student import backbones, store
from components.student.config import WEIGHTS as STUDENT
from components.student.model import build, configure
from research.sam_lite import sources
from research.starts.composites import batches, composite, held_out
from research.starts.pretraining import BACKBONE, REPORT, Plan, PretrainingModel, pretrain

PLAN = Plan(steps=7, every=3, held_out=12)


class Silent:
    """A watcher that stops after an epoch."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after, self.rows, self.resumed = stop_after, [], -1

    def start(self, epoch, epochs, steps):
        self.resumed = epoch

    def step(self, loss):
        pass

    def epoch(self, row):
        self.rows.append(row)
        if row["epoch"] == self.stop_after:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[sources.Sources, sources.Sources]:
    """What trains, and what is held out."""
    root = tmp_path_factory.mktemp("sources")
    for kind in ("photos", "cutouts"):
        (root / kind).mkdir()
    rng = np.random.default_rng(0)
    for n in range(30):
        cloud = rng.integers(0, 255, (9, 12, 3)).astype(np.uint8)
        cv2.imwrite(str(root / f"photos/{n}.png"), cv2.resize(cloud, (240, 180)))
        cutout = np.zeros((60, 80, 4), np.uint8)
        colour = (*rng.integers(0, 255, 3).tolist(), 255)
        cv2.ellipse(cutout, (40, 30), (30, 20), 0, 0, 360, colour, -1)
        cv2.imwrite(str(root / f"cutouts/{n}.png"), cutout)
    folders = [root / "photos"], [root / "cutouts"]
    learnt, held = (sources.load(*folders, None, held_out=side) for side in (False, True))
    return learnt, held


def test_composites_are_pure_and_some_are_authentic(sides) -> None:
    made = [composite(sides[0], 3, number) for number in range(60)]
    for number, (photo, mask) in enumerate(made):
        assert photo.shape == (*mask.shape, 3)
        assert photo.dtype == mask.dtype == np.uint8
        assert set(np.unique(mask)) <= {0, 255}
        assert not mask.any() or 60 <= (mask > 0).sum() <= 0.5 * mask.size
        again = composite(sides[0], 3, number)
        assert np.array_equal(photo, again[0])
        assert np.array_equal(mask, again[1])
    assert 8 <= sum(not mask.any() for _, mask in made) <= 32


def test_batches_go_on_where_they_were_left(sides) -> None:
    whole = list(batches(sides[0], 3, 64, 4, range(4)))
    rest = list(batches(sides[0], 3, 64, 4, range(2, 4)))
    assert len(whole) == 4
    for one, other in zip(whole[2:], rest, strict=True):
        assert one.photos.shape == (4, 3, 64, 64)
        assert one.targets.shape == (4, 1, 64, 64)
        assert torch.equal(one.photos, other.photos)
        assert torch.equal(one.targets, other.targets)
    assert not torch.equal(whole[0].photos, whole[1].photos)


def test_held_out_ones_are_validation_photos(sides) -> None:
    data = held_out(sides[1], 3, 64, 12)
    assert len(data.val) == 12
    assert 0 < data.manipulated.sum() < 12
    photo, mask = data.photo(int(np.flatnonzero(data.manipulated)[0]))
    assert photo.shape == (64, 64, 3)
    assert mask.any()


def test_a_killed_run_ends_with_the_same_bytes(sides, settings, tmp_path) -> None:
    params = settings(backbone="mobilenetv3_large_100", ema=0.9)
    report = pretrain(*sides, params, PLAN, tmp_path / "a", Silent())
    with pytest.raises(KeyboardInterrupt):
        pretrain(*sides, params, PLAN, tmp_path / "b", Silent(stop_after=2))
    watcher = Silent()
    pretrain(*sides, params, PLAN, tmp_path / "b", watcher)
    assert watcher.resumed == 2
    assert [row["epoch"] for row in watcher.rows] == [3]
    for name, facts in report["files"].items():
        assert sha256_file(tmp_path / "a" / name) == facts["sha256"]
        assert sha256_file(tmp_path / "b" / name) == facts["sha256"]
    stored = read_json(tmp_path / "b" / REPORT)
    assert report == {key: value for key, value in stored.items() if key != "history"}
    assert stored["history"][0]["train_loss"] > stored["history"][-1]["train_loss"]
    another = Silent()
    pretrain(*sides, settings(backbone="mobilenetv3_large_100"), PLAN, tmp_path / "b", another)
    assert another.resumed == 0  # other parameters: another run


def test_other_bytes_under_the_same_name_are_another_run(sides, settings, tmp_path) -> None:
    first, runs = tmp_path / "first.safetensors", tmp_path / "runs"
    params = settings(weights=str(first))
    for seed in (1, 2):
        torch.manual_seed(seed)
        student = build(configure(params.student), "none")
        save_file({k: v.contiguous() for k, v in student.backbone.state_dict().items()}, first)
        watcher = Silent()
        pretrain(*sides, params, Plan(1, 1, 8), runs, watcher)
        assert watcher.resumed == 0


def test_students_start_from_either_file(sides, settings, tmp_path) -> None:
    pretrain(*sides, settings(), Plan(2, 2, 8), tmp_path, Silent())
    whole = load_file(tmp_path / STUDENT)
    assert whole.keys() == store.load(tmp_path).state_dict().keys()
    student = build(configure(settings().student), str(tmp_path / STUDENT))
    assert all(torch.equal(value, whole[name]) for name, value in student.state_dict().items())
    torch.manual_seed(1)
    alone = build(configure(settings(channels=16).student), str(tmp_path / BACKBONE)).state_dict()
    assert torch.equal(alone["backbone.conv_stem.weight"], whole["backbone.conv_stem.weight"])
    plain = build(configure(settings(prototypes=0).student), str(tmp_path / STUDENT))
    assert torch.equal(plain.state_dict()["fusion.head.weight"], whole["fusion.head.weight"])
    with pytest.raises(InputError, match=r"fusion\..* has shape .*, expected"):
        build(configure(settings(channels=16).student), str(tmp_path / STUDENT))
    with pytest.raises(InputError, match="missing in these weights"):
        build(configure(settings(frontend="highpass").student), str(tmp_path / STUDENT))


def test_projections_learn_to_see_as_the_other_network(settings) -> None:
    torch.manual_seed(0)
    other = backbones.create("tf_efficientnet_lite0").eval()
    student = PretrainingModel(configure(settings().student), backbones.widths(other)).train()
    photos = torch.rand(4, 3, 64, 64)
    optimiser = torch.optim.AdamW(student.parameters(), lr=0.003)
    with torch.no_grad():
        wanted = other(photos)
    losses = []
    for _ in range(12):
        loss = student.mismatch(student.features(photos), wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 0.9
    assert losses[-1] < 0.7 * losses[0]
