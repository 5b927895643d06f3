from __future__ import annotations

import hashlib
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pseudo_label_support import joined, made_otherwise, predict, scene, settings, tiny_sam
from segment_anything import SamPredictor, sam_model_registry

from components.core.errors import InputError
from components.core.files import sha256_file
from components.pseudo_label.candidates import Prompt
from components.pseudo_label.checkpoints import Checkpoint, Weights
from components.pseudo_label.encoding import stability
from components.pseudo_label.quality import pseudo_mask
from components.pseudo_label.registry import build
from components.pseudo_label.teachers.sam import SAM
from components.pseudo_label.teachers.sam import model as sam

BOXES = np.array([[20.0, 15, 70, 60], [5, 5, 30, 90], [60, 40, 120, 90]])


def load(checkpoint: Checkpoint, half: bool | None = None) -> sam.SamTeacher:
    return sam.load("tiny", checkpoint, 0.0, 1, tiny_sam, half, made_by=SAM)


def tiny(path: Path) -> sam.SamTeacher:
    return load(Checkpoint(path), half=False)


def test_candidates_are_those_of_segment_anything_itself(tiny_checkpoint: Path) -> None:
    photo, _, _ = scene(0)
    model = tiny_sam()
    predictor = SamPredictor(model)
    predictor.set_image(photo)
    answer = predict(tiny(tiny_checkpoint), photo, BOXES)
    assert answer.probability.shape == (3, 4, 96, 128)
    for index, box in enumerate(BOXES):
        several, iou, _ = predictor.predict(box=box, multimask_output=True, return_logits=True)
        single, _, _ = predictor.predict(box=box, multimask_output=False, return_logits=True)
        logits = np.concatenate([single, several])
        expected = 1 / (1 + np.exp(-logits))
        assert np.allclose(answer.probability[index], expected, atol=1e-4)
        assert np.allclose(answer.predicted_iou[index, 1:], iou.clip(0, 1), atol=1e-4)
        tight, loose = (logits > 1).sum((1, 2)), (logits > -1).sum((1, 2))
        stability = tight / np.maximum(loose, 1)
        assert np.allclose(answer.stability[index], stability, atol=1e-2)


def test_stability_score_cuts_at_plus_and_minus_one() -> None:
    logits = torch.tensor([-1.5, -0.9, 0.6, 0.9, 1.1, 3.0]).view(1, 1, 2, 3)
    both = torch.cat([logits, torch.full_like(logits, -2.0)], dim=1)
    assert stability(both).tolist() == [[pytest.approx(2 / 5), 0.0]]


def test_more_boxes_than_one_batch_and_bytes_that_repeat(tiny_checkpoint: Path) -> None:
    photo, _, _ = scene(1)
    boxes = np.tile(BOXES, (7, 1))
    first, second = (predict(tiny(tiny_checkpoint), photo, boxes) for _ in range(2))
    assert len(first.probability) == 21
    assert np.array_equal(first.probability, second.probability)
    assert np.allclose(first.probability[:3], first.probability[18:], atol=1e-5)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_half_precision_gives_the_same_masks(tiny_checkpoint: Path) -> None:
    photo, _, _ = scene(1)
    half = load(Checkpoint(tiny_checkpoint), half=True)
    assert half.settings["precision"] == "bfloat16"
    a, b = (predict(one, photo, BOXES).probability > 0.5 for one in (half, tiny(tiny_checkpoint)))
    assert iou(a, b) > 0.99
    assert not np.array_equal(a, b) or a.any()


def test_a_photo_seen_before_is_not_encoded_again(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo, _, _ = scene(4)
    other, _, _ = scene(5)
    asked = [Prompt(photo, BOXES[:1], "a" * 64), Prompt(other, BOXES, "b" * 64)]
    first = [joined(stream) for stream in tiny(tiny_checkpoint).answers(asked)]
    again = tiny(tiny_checkpoint)
    monkeypatch.setattr(again, "_encode", None)  # any attempt would fail
    moved = [Prompt(photo, BOXES, "a" * 64), asked[1]]
    second = [joined(stream) for stream in again.answers(moved)]
    assert np.array_equal(second[1].probability, first[1].probability)
    unseen = predict(tiny(tiny_checkpoint), photo, BOXES)
    assert np.array_equal(second[0].probability, unseen.probability)
    for other in ("quality", "teachers.sam_lite.network", "cache"):
        made_otherwise(monkeypatch, f"components.pseudo_label.{other}")
        list(again.answers(moved))
    made_otherwise(monkeypatch, "components.pseudo_label.teachers.sam.model")
    with pytest.raises(TypeError):
        list(again.answers(moved))


def test_weights_decide_and_their_hash_is_recorded(tiny_checkpoint: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pth"
    state = tiny_sam().state_dict()
    state["mask_decoder.iou_token.weight"] += 1
    torch.save(state, other)
    a, b = tiny(tiny_checkpoint), tiny(other)
    assert a.sha256 == sha256_file(tiny_checkpoint) != b.sha256
    photo, _, box = scene(2)
    assert not np.array_equal(
        predict(a, photo, box).probability, predict(b, photo, box).probability
    )


def test_a_checkpoint_is_hashed_once(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    real = hashlib.file_digest

    def counted(file, name):
        hashed.append(file.name)
        return real(file, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    weights = Weights("w.pth", 0, sha256_file(tiny_checkpoint))
    hashed.clear()
    load(Checkpoint(tiny_checkpoint, weights))
    assert hashed == [str(tiny_checkpoint)]
    monkeypatch.setattr(sam, "read_third_party", None)  # the check comes before the bytes are used
    with pytest.raises(InputError, match="is not the published"):
        load(Checkpoint(tiny_checkpoint, replace(weights, sha256="0" * 64)))


def test_pseudo_mask_of_a_photo_larger_than_the_network(tiny_checkpoint: Path) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (300, 500, 3), dtype=np.uint8)
    made = pseudo_mask(tiny(tiny_checkpoint), photo, np.array([[10.0, 10, 200, 200]]))
    assert made.mask.shape == (300, 500)
    assert made.mask.any()
    assert 0 <= made.confidence <= 1


def test_checkpoint_of_another_architecture_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    state = tiny_sam().state_dict()
    state["image_encoder.pos_embed"] = torch.zeros(1, 16, 16, 128)
    state["image_encoder.blocks.9.norm1.weight"] = torch.zeros(96)
    del state["mask_decoder.iou_token.weight"]
    torch.save(state, path)
    with pytest.raises(InputError) as caught:
        tiny(path)
    line = caught.value.line()
    assert "1 tensors missing, 1 unknown, 1 of another shape" in line
    assert "mask_decoder.iou_token.weight" in line
    assert "pseudo_label.teacher" in line


class Evil:
    """Would run code if unpickled without care."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)


def test_checkpoint_that_carries_code_runs_nothing(tmp_path: Path) -> None:
    path, mark = tmp_path / "w.pth", tmp_path / "owned"
    torch.save({"weight": Evil(mark)}, path)
    with pytest.raises(InputError, match="not a checkpoint of plain tensors"):
        tiny(path)
    path.write_bytes(pickle.dumps(Evil(mark)))
    with pytest.raises(InputError):
        tiny(path)
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04broken zip"])
def test_file_that_is_no_checkpoint(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"w\.pth"):
        tiny(tmp_path / "w.pth")


def test_truncated_checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> None:
    data = tiny_checkpoint.read_bytes()
    (tmp_path / "w.pth").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="not a checkpoint of plain tensors"):
        tiny(tmp_path / "w.pth")


def test_not_a_dictionary_of_tensors(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="not a flat mapping"):
        tiny(tmp_path / "w.pth")


def test_official_architecture_through_the_registry(tmp_path: Path) -> None:
    path = tmp_path / "own.pth"
    torch.manual_seed(0)
    torch.save(sam_model_registry["vit_b"]().state_dict(), path)
    teacher = build(settings(teacher="vit_b", checkpoint=str(path)))
    assert teacher.name == "vit_b"
    assert teacher.sha256 == sha256_file(path)
    with pytest.raises(InputError, match="not weights of vit_l"):
        build(settings(teacher="vit_l", checkpoint=str(path)))
