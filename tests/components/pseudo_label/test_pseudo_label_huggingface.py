"""Models in Hugging Face format as teachers: loading, prompts, repeatability, refusals."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_transformers
import torch
from pseudo_label_support import joined, make_dataset, predict, scene, settings, tiny_sam, tree
from safetensors.torch import load_file, save_file

from components.core.errors import InputError
from components.core.files import sha256_file, sha256_json
from components.pseudo_label import registry
from components.pseudo_label.candidates import Prompt
from components.pseudo_label.checkpoints import Checkpoint
from components.pseudo_label.label import label_dataset
from components.pseudo_label.teachers.sam import SAM
from components.pseudo_label.teachers.sam import model as sam

ROOT = Path(__file__).parents[3]
BOXES = np.array([[20.0, 15, 70, 60], [5, 5, 30, 90], [60, 40, 120, 90]])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small model of each kind."""
    root = tmp_path_factory.mktemp("models")
    for kind in tiny_transformers.KINDS:
        tiny_transformers.save(root / kind, kind)
    return root


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def load(folder: Path, margin: float = 0.0) -> Any:
    teacher = registry.build(settings(teacher=f"hf:{folder}", margin=margin))
    teacher.half = False
    return teacher


@pytest.mark.parametrize("kind", tiny_transformers.KINDS)
def test_each_kind_answers_boxes_as_its_own_processor_asks_and_restores(
    kind: str, models: Path
) -> None:
    import transformers as t

    photo = np.random.default_rng(0).integers(0, 256, (93, 150, 3), dtype=np.uint8)
    answer = predict(load(models / kind), photo, BOXES)
    assert answer.probability.shape == (3, 4, 93, 150)
    image = {"sam": "Sam", "sam_hq": "Sam"}.get(kind, "Sam2")
    letters = {"sam": "Sam", "sam_hq": "SamHQ", "edgetam": "EdgeTam"}.get(kind, "Sam2")
    images = getattr(t, f"{image}ImageProcessor").from_pretrained(models / kind)
    processor = getattr(t, "SamHQProcessor" if kind == "sam_hq" else f"{image}Processor")(images)
    model = getattr(t, f"{letters}Model").from_pretrained(models / kind).eval()
    asked = processor(photo, input_boxes=[BOXES.tolist()], return_tensors="pt")
    sizes = [asked.pop("original_sizes"), asked.pop("reshaped_input_sizes", None)]
    with torch.inference_mode():
        several = model(**{**asked, "input_boxes": asked["input_boxes"].float()})
    sizes = [size for size in sizes if size is not None]
    logits = processor.post_process_masks(several.pred_masks, *sizes, binarize=False)[0]
    assert np.allclose(answer.probability[:, 1:], logits.sigmoid().numpy(), atol=1e-4)
    iou = several.iou_scores[0].clamp(0, 1).numpy()
    assert np.allclose(answer.predicted_iou[:, 1:], iou, atol=1e-4)
    assert answer.probability[0].std() > 0.02
    assert not np.allclose(answer.probability[:, 0], answer.probability[:, 1])
    assert not np.allclose(answer.probability[0], answer.probability[1], atol=1e-4)
    assert (answer.stability >= 0).all()


def test_a_sam_in_either_format_gives_the_same_masks(tmp_path: Path) -> None:
    model = tiny_transformers.lively(tiny_sam())
    torch.save(model.state_dict(), tmp_path / "own.pth")
    tiny_transformers.save_sam(tmp_path, model)
    photo, _, _ = scene(3)
    ours = sam.load("tiny", Checkpoint(tmp_path / "own.pth"), 0.0, 1, tiny_sam, False, made_by=SAM)
    a, b = (predict(teacher, photo, BOXES) for teacher in (ours, load(tmp_path)))
    # Both resize the photo, by other libraries: a grey value may differ by one.
    assert np.abs(a.probability - b.probability).mean() < 0.01
    assert np.allclose(a.predicted_iou, b.predicted_iou, atol=0.02)
    assert a.probability.std() > 0.05


@pytest.mark.parametrize("kind", ["sam2", "sam_hq"])
def test_a_photo_is_encoded_once_and_a_second_time_not_at_all(
    kind: str, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Prompt(scene(4)[0], np.tile(BOXES, (4, 1)), "c" * 64)
    teacher, again = load(models / kind), load(models / kind)
    calls, real = [], teacher._encode
    monkeypatch.setattr(teacher, "_encode", lambda *given: calls.append(1) or real(*given))
    first = joined(next(teacher.answers([asked])))
    assert len(calls) == 1
    monkeypatch.setattr(again, "_encode", None)  # any attempt would fail
    second = joined(next(again.answers([asked])))
    assert np.array_equal(first.probability, second.probability)


def test_number_of_cores_changes_nothing_and_the_table_names_the_weights(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_dataset(tmp_path / "data", 4)
    params = settings(teacher=f"hf:{models / 'sam2'}")
    trees = []
    for cores in (1, 3):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=cores: set(range(n)))
        out, cache = tmp_path / f"out{cores}", tmp_path / f"cache{cores}"
        monkeypatch.setenv("IML_STATE", str(tmp_path / f"state{cores}"))
        labels = label_dataset(data, tmp_path / "data", params, out, cache)
        trees.append(tree(out))
    assert trees[0] == trees[1]
    files = ("config.json", "model.safetensors", "preprocessor_config.json")
    listed = {name: sha256_file(models / "sam2" / name) for name in files}
    assert set(labels["teacher"]) == {params.teacher}
    assert set(labels["teacher_sha256"]) == {sha256_json(listed)}
    summary = json.loads((out / "summary.json").read_text())
    assert summary["teacher_licence"] == "unknown"  # a folder of the user's own


def test_another_configuration_is_another_teacher(models: Path, tmp_path: Path) -> None:
    tiny_transformers.save(tmp_path, "sam")
    before = load(tmp_path).sha256
    assert before == load(models / "sam").sha256
    config = json.loads((tmp_path / "preprocessor_config.json").read_text())
    config["image_mean"][0] += 0.1
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    assert load(tmp_path).sha256 != before


def spoilt(folder: Path, what: str) -> None:
    weights, config = folder / "model.safetensors", folder / "config.json"
    state = load_file(weights)
    if what == "bert":
        config.write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    elif what == "pickle":
        torch.save(state, folder / "pytorch_model.bin")
        weights.unlink()
    elif what == "no config":
        config.unlink()
    elif what == "config is no JSON":
        config.write_text("{")
    elif what == "truncated":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif what == "tensor missing":
        del state["mask_decoder.iou_token.weight"]
        save_file(state, weights, metadata={"format": "pt"})
    elif what == "another shape":
        state["mask_decoder.iou_token.weight"] = torch.zeros(3, 5)
        save_file(state, weights, metadata={"format": "pt"})
    elif what == "no preprocessor":
        (folder / "preprocessor_config.json").unlink()


@pytest.mark.parametrize(
    ("what", "complaint"),
    [
        ("bert", "a model of type 'bert' answers no boxes"),
        ("pickle", "has not the files config.json and model.safetensors"),
        ("no config", "has not the files config.json"),
        ("config is no JSON", "config.json"),
        ("truncated", "cannot be loaded as a SamModel"),
        ("tensor missing", r"not weights of SamModel: tensors 1 missing"),
        ("another shape", "SamModel"),
        ("no preprocessor", "cannot be loaded as a SamModel"),
    ],
)
def test_what_is_no_teacher_is_one_clear_line(what: str, complaint: str, tmp_path: Path) -> None:
    spoilt(tiny_transformers.save(tmp_path, "sam"), what)
    with pytest.raises(InputError, match=complaint) as caught:
        load(tmp_path)
    assert "\n" not in caught.value.line()
    assert caught.value.exit_code == 2


def test_code_that_comes_with_a_model_is_not_run(tmp_path: Path) -> None:
    tiny_transformers.save(tmp_path, "sam")
    config = json.loads((tmp_path / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'owned')!r}, 'w')\nclass Evil: ...\n")
    load(tmp_path)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "name", ["hf:facebook/sam2.1-hiera-tiny", "hf:nowhere", f"hf:a/b@{'0' * 39}", "hf:a/b@main"]
)
def test_a_name_without_a_commit_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="names no commit of a model") as caught:
        registry.build(settings(teacher=name))
    assert "hf:ORGANIZATION/NAME@COMMIT" in caught.value.hint


def test_a_file_of_weights_beside_it_is_refused(models: Path, tiny_checkpoint: Path) -> None:
    with pytest.raises(InputError, match=r"pseudo_label\.checkpoint"):
        registry.build(settings(teacher=f"hf:{models / 'sam'}", checkpoint=str(tiny_checkpoint)))


def test_without_the_extra_it_is_one_clear_line(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match="transformers is not installed") as caught:
        load(models / "sam")
    assert "boxpromptiml[transformers]" in caught.value.hint


def test_transformers_is_imported_for_its_own_models_alone_and_nothing_is_asked_of_a_network(
    models: Path,
) -> None:
    code = f"""
import sys
asked = []
def hook(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        asked.append(event)
sys.addaudithook(hook)
import numpy as np
from components.core.params import PseudoLabel
from components.pseudo_label.registry import build
def teacher(name):
    fixed = dict(checkpoint="", margin=0.0, min_confidence=0.0, threads=1)
    return build(PseudoLabel(teacher=name, **fixed))
for name in ("sam_lite", "grabcut"):
    teacher(name)
assert "transformers" not in sys.modules
made = teacher("hf:{models / "sam2"}")
list(made.stream(np.zeros((64, 64, 3), np.uint8), np.array([[8.0, 8, 40, 40]])))
assert "transformers" in sys.modules
assert not asked, asked
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not re.search(r"Loading|Warning|warn", done.stderr), done.stderr
