"""Crops and the network of `sam_lite`, with weights made in the test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pseudo_label_support import joined, predict, settings
from safetensors.torch import save_file

from components.core.errors import InputError
from components.core.weights import lite0
from components.pseudo_label.candidates import Prompt
from components.pseudo_label.checkpoints import Checkpoint
from components.pseudo_label.quality import pseudo_mask
from components.pseudo_label.registry import build, get, locate
from components.pseudo_label.teachers.sam_lite import WEIGHTS
from components.pseudo_label.teachers.sam_lite import model as sam_lite
from components.pseudo_label.teachers.sam_lite.model import cut, spread
from components.pseudo_label.teachers.sam_lite.network import SamLite, Trunk, coverage

BIG = np.array([[2950.0, 1960.0, 4180.0, 2950.0]])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "own.safetensors"
    save_file(SamLite(sam_lite.SIZE).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def teacher(weights: Path) -> sam_lite.SamLiteTeacher:
    return sam_lite.load_teacher(Checkpoint(weights), threads=1)


def _photo(height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(5).integers(0, 255, (12, 16, 3)).astype(np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize(
    "box",
    [(60, 40, 120, 90), (0, 0, 30, 20), (150, 100, 200, 130), (5, 5, 195, 125), (80, 60, 81, 61)],
)
def test_a_mask_comes_back_where_it_was(box: tuple[int, int, int, int]) -> None:
    photo = np.zeros((130, 200, 3), np.uint8)
    x0, y0, x1, y1 = box
    photo[y0:y1, x0:x1] = 255
    crop = cut(photo, np.array(box, float), 192)
    left, top, right, bottom = crop.window
    assert left <= x0 < x1 <= right <= 200
    assert top <= y0 < y1 <= bottom <= 130
    full = np.zeros((130, 200), np.float32)
    full[top:bottom, left:right] = spread(crop.pixels[..., 0].astype(np.float32), crop)
    truth = photo[..., 0] > 0
    assert ((full > 127) & truth).sum() / ((full > 127) | truth).sum() > 0.97
    inside = np.zeros((192, 192), bool)
    a, b, c, d = np.round(crop.box).astype(int)
    inside[b:d, a:c] = True
    bright = crop.pixels[..., 0] > 127
    bright[crop.inner[0] :] = bright[:, crop.inner[1] :] = False
    if x1 - x0 > 1:  # a lone pixel is blurred by the zoom
        assert (inside & bright).sum() / (inside | bright).sum() > 0.9


def test_coverage_counts_parts_of_cells() -> None:
    found = coverage(torch.tensor([[0.0, 0.0, 6.0, 4.0]]), 16, 4)[0, 0]
    expected = torch.zeros(4, 4)
    expected[0, 0], expected[0, 1] = 1.0, 0.5
    assert torch.equal(found, expected)


def test_masks_do_not_depend_on_which_boxes_are_asked_together(
    teacher: sam_lite.SamLiteTeacher,
) -> None:
    photo = _photo(120, 180)
    rng = np.random.default_rng(1)
    low = rng.uniform(0, 80, (11, 2))
    boxes = np.concatenate([low, low + rng.uniform(1, 40, (11, 2))], axis=1)
    together = predict(teacher, photo, boxes)
    assert together.probability.shape == (11, 1, 120, 180)
    for index in (0, 3, 4, 10):
        alone = predict(teacher, photo, boxes[index : index + 1])
        assert np.array_equal(alone.probability[0], together.probability[index])
        assert np.array_equal(alone.predicted_iou[0], together.predicted_iou[index])
    other = _photo(90, 70)
    asked = [Prompt(other, boxes[:3] / 2), Prompt(photo, boxes[2:]), Prompt(other, boxes[:1] / 2)]
    found = [joined(stream) for stream in teacher.answers(asked)]
    assert [len(one.probability) for one in found] == [3, 9, 1]
    assert np.array_equal(found[1].probability, together.probability[2:])
    assert np.array_equal(found[2].probability[0], found[0].probability[0])
    assert 0 <= together.probability.min() < together.probability.max() <= 1


def test_nothing_is_claimed_far_from_the_box(teacher: sam_lite.SamLiteTeacher) -> None:
    mask = predict(teacher, _photo(200, 300), np.array([[10.0, 10.0, 30.0, 30.0]])).probability
    assert mask[..., 60:, :].max() == 0
    assert mask[..., :, 60:].max() == 0


@pytest.mark.parametrize("name", ["grabcut", "sam_lite"])
def test_photos_and_boxes_at_their_limits(name: str) -> None:
    teacher = build(settings(teacher=name))
    photo = _photo(90, 140)
    pixel = pseudo_mask(teacher, photo, np.array([[70.0, 40.0, 71.0, 41.0]]))
    assert 0 < (pixel.mask > 127).sum() < 400
    whole = pseudo_mask(teacher, photo, np.array([[0.0, 0.0, 140.0, 90.0]]))
    assert whole.mask.shape == (90, 140)
    assert (whole.mask > 127).any()
    grey = np.repeat(photo[..., :1], 3, axis=2)
    corners = np.random.default_rng(2).uniform(0, [100, 60], (50, 2))
    many = np.hstack([corners, corners + np.array([30, 20])])
    fifty = pseudo_mask(teacher, grey, many)
    assert fifty.mask.any()
    assert 0 < fifty.confidence <= 1


def test_a_photo_of_48_megapixels() -> None:
    photo = np.full((6000, 8000, 3), 90, np.uint8)
    photo[2000:2900, 3000:4100] = (200, 40, 60)
    made = pseudo_mask(build(settings(teacher="sam_lite")), photo, BIG)
    mask = made.mask > 127
    truth = np.zeros_like(mask)
    truth[2000:2900, 3000:4100] = True
    assert (mask & truth).sum() / (mask | truth).sum() > 0.8


@pytest.mark.parametrize("shape", [(1, 1), (3, 400), (64, 64)])
def test_small_and_narrow_photos(teacher: sam_lite.SamLiteTeacher, shape: tuple[int, int]) -> None:
    box = np.array([[0.0, 0.0, shape[1], shape[0]]])
    found = predict(teacher, _photo(*shape), box)
    assert found.probability.shape == (1, 1, *shape)
    assert np.isfinite(found.probability).all()


def test_folding_the_batch_norms_changes_nothing() -> None:
    import timm

    state = lite0()
    trunk = Trunk(state)
    network = timm.create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict(state)
    with torch.no_grad():
        x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        maps = trunk(x)
        plain = network.bn1(network.conv_stem(x))
        for index in range(6):
            plain = network.blocks[index](plain)
            if index in maps:
                assert torch.allclose(maps[index], plain, atol=1e-3)
    assert not any("running_mean" in name for name in trunk.state_dict())


def test_foreign_and_damaged_weights_are_refused(weights: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(2)}, foreign)
    with pytest.raises(InputError, match="not weights of sam_lite"):
        sam_lite.load_teacher(Checkpoint(foreign), 1)
    cut_off = tmp_path / "cut.safetensors"
    cut_off.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="not a safetensors file"):
        sam_lite.load_teacher(Checkpoint(cut_off), 1)
    with pytest.raises(InputError, match="cannot read"):
        sam_lite.load_teacher(Checkpoint(tmp_path / "none.safetensors"), 1)


def _pasted(height: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A smooth scene with an ellipse of another texture."""
    rng = np.random.default_rng(seed)
    scene, other = (
        cv2.resize(rng.integers(60, 200, (6, 8, 3)).astype(np.uint8), (width, height))
        for _ in range(2)
    )
    mask = np.zeros((height, width), np.uint8)
    cv2.ellipse(mask, (width // 2, height // 2), (width // 5, height // 5), 20, 0, 360, 1, -1)
    other = np.clip(other + rng.normal(0, 12, other.shape), 0, 255).astype(np.uint8)
    return np.where(mask[..., None] > 0, other, scene), mask > 0


def test_the_weights_that_come_along_find_what_was_pasted() -> None:
    teacher = build(settings(teacher="sam_lite"))
    assert teacher.sha256 == WEIGHTS.sha256
    for seed in range(3):
        photo, truth = _pasted(180, 240, seed)
        box = np.array([[60.0, 40.0, 178.0, 140.0]])
        found = predict(teacher, photo, box)
        mask = found.probability[0, 0] > 0.5
        assert (mask & truth).sum() / (mask | truth).sum() > 0.85
        assert found.predicted_iou[0, 0] > 0.7


def test_the_weights_that_come_along_are_checked(tmp_path: Path) -> None:
    damaged = replace(WEIGHTS, folder=tmp_path)
    damaged.path.write_bytes(WEIGHTS.path.read_bytes()[:-1] + b"0")
    with pytest.raises(InputError, match=r"SHA-256 differs.*install the project again"):
        sam_lite.load_teacher(locate(replace(get("sam_lite"), weights=damaged), ""), 1)
    damaged.path.unlink()
    with pytest.raises(InputError, match="install the project again"):
        damaged.fetch()
