"""MobileSAM answers as its reference package does, from a checkpoint in its format."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import mobile_sam_support as support
import numpy as np
import pytest
import torch
from pseudo_label_support import predict, settings

from components.core.errors import InputError
from components.core.files import sha256_file
from components.pseudo_label.candidates import Candidates
from components.pseudo_label.registry import build
from components.pseudo_label.teachers.sam.model import SamTeacher

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In the published format; the classifier that nothing uses is in it."""
    path = tmp_path_factory.mktemp("weights") / "own.pt"
    torch.save(support.weights(support.facts()["tensors"]), path)
    return path


def load(checkpoint: Path) -> SamTeacher:
    teacher = build(settings(teacher="mobile_sam", checkpoint=str(checkpoint), margin=0.0))
    teacher.half = False
    return teacher


@pytest.fixture(scope="module")
def teacher(checkpoint: Path) -> Iterator[SamTeacher]:
    threads = torch.get_num_threads()
    yield load(checkpoint)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def answer(teacher: SamTeacher) -> Candidates:
    return predict(teacher, support.photo(), support.BOXES)


def embedding(teacher: SamTeacher) -> np.ndarray:
    with torch.inference_mode():
        return teacher._encode([support.photo()], 1)[0][0]


def test_its_numbers_are_those_of_the_reference(teacher: SamTeacher, answer: Candidates) -> None:
    known = support.facts()
    found = (embedding(teacher), answer.probability, answer.predicted_iou)
    for name, values in zip(("embedding", "probability", "iou"), found, strict=True):
        wanted = np.array(known[name])
        wanted = wanted.clip(0, 1) if name == "iou" else wanted
        assert np.std(wanted) > 0.05
        assert np.allclose(support.sample(values), wanted, atol=2e-3), name


@pytest.mark.skipif(not find_spec("mobile_sam"), reason="the reference package is not installed")
def test_every_number_is_the_reference_package_s(
    teacher: SamTeacher, answer: Candidates, tmp_path: Path
) -> None:
    # In another process: the package replaces some of timm's models with its own.
    code = (
        "import numpy as np, mobile_sam_support as s;"
        "r = s.reference(s.weights(s.facts()['tensors'])); e, p, i = s.answer(r);"
        f"np.savez({str(tmp_path / 'r.npz')!r}, e=e, p=p, i=i);"
        "assert s.facts()['tensors'] == {n: list(v.shape) for n, v in r.model.state_dict().items()}"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT / "tests", check=True)
    known = np.load(tmp_path / "r.npz")
    assert np.abs(embedding(teacher) - known["e"]).max() < 2e-3
    assert np.abs(answer.probability - known["p"]).max() < 2e-3
    assert np.abs(answer.predicted_iou - known["i"].clip(0, 1)).max() < 1e-3


def test_the_hash_is_the_file_s_and_another_model_is_refused(
    checkpoint: Path, teacher: SamTeacher, tmp_path: Path
) -> None:
    assert (teacher.name, teacher.sha256) == ("mobile_sam", sha256_file(checkpoint))
    state = torch.load(checkpoint)
    del state["image_encoder.layers.1.downsample.conv2.c.weight"]
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(InputError, match="not weights of mobile_sam: 1 tensors missing") as caught:
        load(tmp_path / "other.pt")
    assert "body.stages.2.downsample.conv2.conv.weight" in caught.value.line()
