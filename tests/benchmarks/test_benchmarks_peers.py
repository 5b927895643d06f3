"""Peers are loaded from a folder that leaves no trace; here a package laid out as `imdlbenco` is.

The folder of the real one (see `benchmarks.peers`) in `$IMDLBENCO` is tried as well.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from student_support import make, one_thread, settings  # noqa: F401
from torch.utils import model_zoo

from benchmarks import student as bench
from benchmarks.peers import peers
from components.core.errors import InputError

NAMES = ["SparseViT", "MVSSNet", "PSCC_Net"]
MODULE = """
import torch
from torch.utils import model_zoo
from IMDLBenCo.registry import MODELS

class {name}(torch.nn.Module):
    def __init__(self, img_size=9, input_size=9, pretrain_path="missing.pth"):
        super().__init__()
        assert model_zoo.load_url("https://nowhere.invalid/trunk.pth") == {{}}
        self.given, self.layer = (img_size, input_size), torch.nn.Conv2d(3, 1, 1)
        print("loud")

    def forward(self, image, mask, edge_mask, label, *args, **kwargs):
        assert not self.training
        return {{"pred_mask": self.layer(image), "given": self.given}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "IMDLBenCo"
    (root / "model_zoo").mkdir(parents=True)
    (root / "__init__.py").write_text("raise RuntimeError('imports every model')")
    (root / "model_zoo/__init__.py").write_text("raise RuntimeError('imports every model')")
    (root / "registry.py").write_text("MODELS = None")
    files = ("sparse_vit/sparse_vit", "mvss_net/mvssnet", "pscc_net/pscc_net")
    for name, file in zip(NAMES, files, strict=True):
        path = root / f"model_zoo/{file}.py"
        path.parent.mkdir()
        (path.parent / "__init__.py").touch()
        path.write_text(MODULE.format(name=name))
    return tmp_path


def test_each_answers_for_a_photo_and_nothing_stays_imported(folder: Path, capsys) -> None:
    load, path = model_zoo.load_url, list(sys.path)
    found = peers(folder, 32)
    assert list(found) == NAMES
    answers = {name: run() for name, run in found.items()}
    assert all(answer["pred_mask"].shape == (1, 1, 32, 32) for answer in answers.values())
    given = [answers[name]["given"] for name in NAMES]
    assert given == [(32, 9), (9, 9), (9, 32)]
    assert not [name for name in sys.modules if name.startswith("IMDLBenCo")]
    assert model_zoo.load_url is load
    assert sys.path == path
    assert capsys.readouterr().out == ""


def test_the_bench_sets_students_beside_them(folder: Path, settings, monkeypatch) -> None:
    monkeypatch.setattr(bench, "SIZE", 64)
    monkeypatch.setattr(bench, "_ROUNDS", 1)
    found = bench.bench_student(["mobilenetv3_large_100"], settings(), folder)["peers"]
    assert set(found["seconds"]) == {*NAMES, "mobilenetv3_large_100"}
    fastest = min(NAMES, key=found["seconds"].__getitem__)
    assert found["fastest"] == fastest
    own = found["seconds"]["mobilenetv3_large_100"]
    assert found["times_faster"] == {"mobilenetv3_large_100": found["seconds"][fastest] / own}


@pytest.mark.parametrize("broken", ["", "IMDLBenCo/model_zoo/mvss_net/mvssnet.py"])
def test_a_folder_without_them_says_how_to_get_them(folder: Path, broken: str) -> None:
    (folder / broken).unlink() if broken else (folder / "IMDLBenCo").rename(folder / "other")
    with pytest.raises(InputError, match="pip install --no-deps --target FOLDER imdlbenco yacs"):
        peers(folder, 32)


def test_the_real_package_loads() -> None:
    real = os.environ.get("IMDLBENCO")
    if not real:
        pytest.skip("$IMDLBENCO does not name a folder with the imdlbenco package")
    with torch.inference_mode():
        assert peers(Path(real), 512)["SparseViT"]()["pred_mask"].shape == (1, 1, 512, 512)
