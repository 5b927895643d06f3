"""Pairs, losses and the training of `sam_lite`, on pictures made in the test."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy.io import savemat

from components.core.errors import InputError
from components.core.files import sha256_file
from components.core.seeds import generator
from components.pseudo_label.teachers.sam_lite import WEIGHTS
from research import shapes
from research.sam_lite import command, pairs, sources
from research.sam_lite.losses import candidate_loss
from research.sam_lite.train import CHECKPOINT, TrainConfig, train


def _write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sources")
    rng = np.random.default_rng(0)
    for n in range(30):
        cloud = rng.integers(0, 255, (9, 12, 3)).astype(np.uint8)
        _write(root / f"photos/{n}.png", cv2.resize(cloud, (240, 180)))
        cutout = np.zeros((60, 80, 4), np.uint8)
        colour = (*rng.integers(0, 255, 3).tolist(), 255)
        cv2.ellipse(cutout, (40, 30), (30, 20), 0, 0, 360, colour, -1)
        _write(root / f"cutouts/{n}.png", cutout)
        _write(root / f"regions/images/{n}.jpg", cv2.resize(cloud, (120, 80)))
        labels = np.ones((80, 120), np.uint16)
        labels[20:50, 30 : 60 + n] = 2
        one = np.zeros((1, 1), dtype=[("Segmentation", object)])
        one[0, 0]["Segmentation"] = labels
        cell = np.empty((1, 1), dtype=object)
        cell[0, 0] = one
        (root / "regions/segments").mkdir(exist_ok=True)
        savemat(root / f"regions/segments/{n}.mat", {"groundTruth": cell})
    return root


@pytest.fixture(scope="module")
def material(folder: Path) -> sources.Sources:
    return sources.load([folder / "photos"], [folder / "cutouts"], folder / "regions", False)


def test_held_out_sources_never_train(folder: Path, material: sources.Sources) -> None:
    held = sources.load([folder / "photos"], [folder / "cutouts"], folder / "regions", True)
    assert len(held.photos) + len(material.photos) == 30
    assert 0 < len(held.photos) < len(material.photos)
    ours = {photo.tobytes() for photo in material.photos}
    assert not any(photo.tobytes() in ours for photo in held.photos)
    assert held.digest != material.digest


@pytest.mark.parametrize("name", [*shapes.GEOMETRIC, *shapes.FREE_FORM])
def test_shapes_fill_their_extent(name: str) -> None:
    for seed in range(20):
        mask = shapes.draw(name, 60, 40, generator(seed, name))
        assert mask.dtype == np.float32
        assert 0 <= mask.min() <= mask.max() <= 1
        assert mask.shape[0] <= 42
        assert mask.shape[1] <= 62
        assert 0.05 < (mask > 0.5).mean() <= 1


@pytest.mark.parametrize("kind", pairs.KINDS)
def test_pairs_are_what_they_say(material: sources.Sources, kind: str) -> None:
    for index in range(12):
        pair = pairs.make(material, {kind: 1.0}, 3, index)
        assert pair.kind == kind
        height, width = pair.mask.shape
        assert pair.photo.shape == (height, width, 3)
        assert pair.photo.dtype == np.uint8
        assert pair.mask.sum() >= 50
        x0, y0, x1, y1 = pair.box
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
        inside = pair.mask[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))]
        assert inside.sum() > 0.7 * pair.mask.sum()


def test_a_pair_depends_on_seed_and_index_alone(material: sources.Sources) -> None:
    one = pairs.make(material, {"object": 1.0, "geometric": 1.0}, 3, 5)
    pairs.make(material, {"object": 1.0, "geometric": 1.0}, 3, 6)
    again = pairs.make(material, {"object": 1.0, "geometric": 1.0}, 3, 5)
    other = pairs.make(material, {"object": 1.0, "geometric": 1.0}, 4, 5)
    assert np.array_equal(one.photo, again.photo)
    assert np.array_equal(one.mask, again.mask)
    assert np.array_equal(one.box, again.box)
    assert one.photo.shape != other.photo.shape or not np.array_equal(one.photo, other.photo)


def test_a_loosened_box_stays_near_its_mask() -> None:
    mask = np.zeros((100, 100), bool)
    mask[40:60, 30:70] = True
    for seed in range(200):
        x0, y0, x1, y1 = pairs.loosen(mask, generator(seed, "box"))
        assert 30 - 12 <= x0 <= 32
        assert 68 <= x1 <= 70 + 12
        assert 40 - 6 <= y0 <= 41
        assert 59 <= y1 <= 60 + 6


def test_the_loss_is_small_for_the_truth_and_knows_its_iou() -> None:
    target = torch.zeros(2, 16, 16)
    target[:, 4:12, 4:12] = 1
    valid = torch.ones_like(target)
    right = (target * 20 - 10)[:, None].expand(2, 3, 16, 16)
    good, iou = candidate_loss(right, torch.ones(2, 3), target, valid)
    assert torch.equal(iou, torch.ones(2, 3))
    assert good < 0.01
    boast, _ = candidate_loss(-right, torch.ones(2, 3), target, valid)
    honest, iou = candidate_loss(-right, torch.zeros(2, 3), target, valid)
    assert torch.equal(iou, torch.zeros(2, 3))
    assert boast == pytest.approx(float(honest) + 1)


def test_what_the_crop_does_not_show_costs_nothing() -> None:
    target, valid = torch.zeros(1, 16, 16), torch.ones(1, 16, 16)
    target[:, 4:12, 4:8] = 1
    valid[:, :, 12:] = 0
    logits = (target * 20 - 10)[:, None].clone()
    before, _ = candidate_loss(logits, torch.ones(1, 1), target, valid)
    logits[..., 12:] = 10
    after, iou = candidate_loss(logits, torch.ones(1, 1), target, valid)
    assert after == before
    assert float(iou) == 1


class _Stopped(Exception):
    pass


def test_a_killed_training_goes_on_to_the_same_weights(
    material: sources.Sources, tmp_path: Path
) -> None:
    config = TrainConfig(
        steps=4, batch=2, small=32, size=64, cool=0.5, warmup=2, threads=1, save_seconds=0
    )
    whole = load_file(train(config, material, None, tmp_path / "whole"))

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise _Stopped

    with pytest.raises(_Stopped):
        train(config, material, None, tmp_path / "parts", stop)
    assert (tmp_path / "parts" / CHECKPOINT).exists()
    steps: list[int] = []
    resumed = load_file(
        train(config, material, None, tmp_path / "parts", lambda done, _: steps.append(done))
    )
    assert steps == [3, 4]
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    with pytest.raises(InputError, match="another configuration"):
        train(TrainConfig(steps=4, threads=1), material, None, tmp_path / "parts")
    with pytest.raises(InputError, match="too late"):
        train(replace(config, steps=6), material, None, tmp_path / "parts")


def test_a_run_can_be_prolonged_until_it_cools_down(
    material: sources.Sources, tmp_path: Path
) -> None:
    short = TrainConfig(
        steps=4, batch=1, small=32, size=32, cool=0.5, warmup=1, threads=1, save_seconds=0
    )
    longer = replace(short, steps=6)
    whole = load_file(train(longer, material, None, tmp_path / "whole"))

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise _Stopped

    with pytest.raises(_Stopped):
        train(short, material, None, tmp_path / "parts", stop)
    prolonged = load_file(train(longer, material, None, tmp_path / "parts"))
    assert all(torch.equal(whole[name], prolonged[name]) for name in whole)


def test_training_learns(material: sources.Sources, tmp_path: Path) -> None:
    config = TrainConfig(
        steps=24, batch=4, small=64, size=64, warmup=2, threads=1, shares={"object": 1.0}
    )
    train(config, material, None, tmp_path)
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines[0] == "step,seconds,loss,best_iou"
    assert float(lines[-1].split(",")[3]) > 0.3


def _copy(folder: Path, target: Path, *, without_held_out: str = "") -> tuple[Path, Path, Path]:
    """The sources in another folder; of one kind only those that train."""
    shutil.copytree(folder, target)
    for path in (target / without_held_out).glob("*") if without_held_out else ():
        if int(sha256_file(path)[:8], 16) % 7 == 0:
            path.unlink()
    return target / "photos", target / "cutouts", target / "regions"


def _no_step(*_: object) -> Path:
    raise AssertionError("trained")


@pytest.mark.parametrize(
    ("kind", "name"),
    [("photos", "photos"), ("cutouts", "cut-outs"), ("regions/images", "photos with regions")],
)
def test_nothing_to_hold_out_is_said_before_the_first_step(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
) -> None:
    monkeypatch.setattr(command, "train", _no_step)
    photos, cutouts, regions = _copy(folder, tmp_path / "s", without_held_out=kind)
    with pytest.raises(InputError, match=f"no {name} to hold out: .* one in 7"):
        command.train_command([photos], [cutouts], regions, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("what", ["garbage", "another network", "nothing", "a folder"])
def test_first_weights_that_are_none_are_one_clear_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(command, "train", _no_step)
    start = tmp_path / "first.safetensors"
    if what == "garbage":
        start.write_bytes(b"no weights at all")
    elif what == "another network":
        save_file({"a": torch.zeros(2)}, start)
    elif what == "a folder":
        start.mkdir()
    with pytest.raises(InputError, match=r"first\.safetensors: (not |cannot read the weights)"):
        command.train_command(
            [folder / "photos"], [folder / "cutouts"], None, tmp_path / "out", start=start
        )


def test_training_starts_from_earlier_weights_as_they_are(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, torch.Tensor]] = []

    def stop(config, learnt, first, out, progress, earlier) -> Path:
        assert first is None
        given.append(earlier)
        raise _Stopped

    monkeypatch.setattr(command, "train", stop)
    with pytest.raises(_Stopped):
        command.train_command(
            [folder / "photos"], [folder / "cutouts"], None, tmp_path / "out", start=WEIGHTS.path
        )
    wanted = {name: value.float() for name, value in load_file(WEIGHTS.path).items()}
    assert given[0].keys() == wanted.keys()
    assert all(torch.equal(given[0][name], value) for name, value in wanted.items())


def test_hidden_files_are_left_out_and_folders_are_searched(
    folder: Path, material: sources.Sources, tmp_path: Path
) -> None:
    photos, cutouts, regions = _copy(folder, tmp_path / "s")
    for place in (photos, cutouts, regions / "images"):
        (place / "._1.png").write_bytes(b"what macOS leaves beside each file")
    (photos / "album.png").mkdir()
    (photos / "1.png").rename(photos / "album.png" / "1.png")
    assert sources.load([photos], [cutouts], regions, False).digest == material.digest


@pytest.mark.parametrize(
    ("what", "complaint"),
    [
        ("empty", r"empty file \(0 bytes\)"),
        ("text", "not a JPEG"),
        ("dangling", "no such file"),
        ("pipe", "not a regular file"),
        ("large", "9000x8000 is larger than 64 megapixels"),
    ],
)
def test_a_picture_that_cannot_be_used_is_one_clear_line(
    folder: Path, tmp_path: Path, what: str, complaint: str
) -> None:
    photos, cutouts, _ = _copy(folder, tmp_path / "s")
    bad = photos / "bad.png"
    if what in ("empty", "text"):
        bad.write_bytes(b"" if what == "empty" else b"text")
    elif what == "dangling":
        bad.symlink_to("nowhere")
    elif what == "pipe":
        os.mkfifo(bad)
    else:
        Image.new("1", (9000, 8000)).save(bad)
    with pytest.raises(InputError, match=rf"bad\.png: {complaint}"):
        [sources.load([photos], [cutouts], None, side) for side in (False, True)]


@pytest.mark.parametrize("content", ["text", "cut off", "none"])
def test_label_maps_that_are_none_are_one_clear_line(
    folder: Path, tmp_path: Path, content: str
) -> None:
    photos, cutouts, regions = _copy(folder, tmp_path / "s")
    for path in (regions / "segments").iterdir():
        if content == "none":
            savemat(path, {"groundTruth": np.empty((1, 0), dtype=object)})
        else:
            path.write_bytes(b"text" if content == "text" else path.read_bytes()[:300])
    with pytest.raises(InputError, match=r"\.mat: no label maps"):
        sources.load([photos], [cutouts], regions, False)
