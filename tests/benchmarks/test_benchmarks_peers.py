"""Peers are loaded from a folder that leaves no trace; here a package laid out as `imdlbenco` is.

The folder of the real one (see `benchmarks.peers`) in `$IMDLBENCO` is tried as well.
"""

from __future__ import annotations

import os
import sys
from itertools import repeat
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from student_support import make, one_thread, settings  # noqa: F401
from torch.utils import model_zoo

from benchmarks import peer_training
from benchmarks import student as bench
from benchmarks.peers import networks, peers
from components.core import params
from components.core.errors import InputError
from components.core.images import save_grey, save_photo
from components.core.params import Params
from components.data import manifest
from components.data.build import build
from components.data.manifest import MANIPULATED
from components.distill.batches import Batch
from components.ingest.importing import import_dataset

ROOT = Path(__file__).parents[2]
NAMES = ["SparseViT", "MVSSNet", "PSCC_Net"]
MODULE = """
import torch
from torch.utils import model_zoo
from IMDLBenCo.registry import MODELS

class {name}(torch.nn.Module):
    def __init__(self, img_size=9, input_size=9, pretrain_path="missing.pth", **blocks):
        super().__init__()
        assert model_zoo.load_url("https://nowhere.invalid/trunk.pth") == {{}}
        self.given, self.layer = (img_size, input_size), torch.nn.Conv2d(3, 1, 1)
        self.blocks = blocks
        print("loud")

    def forward(self, image, mask, label, *args, **kwargs):
        assert label.shape == image.shape[:1]
        logits = self.layer(image)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, mask)
        found = {{"pred_mask": logits.sigmoid(), "backward_loss": loss}}
        return found | {{"given": self.given, "training": self.training}}
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
    assert not any(answer["training"] for answer in answers.values())
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


@pytest.mark.parametrize(
    ("size", "grids"), [(512, ([8, 4, 2, 1], [2, 1])), (256, ([16, 8, 4, 2], [4, 2]))]
)
def test_attention_has_the_published_share_of_the_photo(folder: Path, size: int, grids) -> None:
    found = networks(folder, {"SparseViT": size})["SparseViT"].blocks
    assert (found["s_blocks3"], found["s_blocks4"]) == grids


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A prepared data set in which what is red is manipulated; a small student, no treatment."""
    for number in range(24):
        photo = np.full((32, 40, 3), (0, 40 + 6 * number, 120), np.uint8)
        save_photo(tmp_path / f"given/Au/{number}.png", photo)
        photo[5:20, 8:24] = (250, 20, 20)
        save_photo(tmp_path / f"given/Tp/{number}.png", photo)
        save_grey(tmp_path / f"given/Gt/{number}_gt.png", np.uint8(255) * (photo[..., 0] > 200))
    about = {"name": "red", "licence": "none", "source_name": "made"}
    import_dataset(tmp_path / "given", tmp_path / "data/red", **about)
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["prepare"] |= {"datasets": ["red"], "near_duplicate_bits": 0}
    values["distill"] |= {"augment": False, "threads": 1}
    values["evaluate"] |= {"datasets": ["red"], "bootstrap": 100, "threads": 1}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    settings = params.load(tmp_path / "params.yaml")
    tables, _ = build(tmp_path / "data/red", settings.prepare)
    manifest.write(tmp_path / "runs/prepare", tables.below("red"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IML_STATE", str(tmp_path / ".state"))
    monkeypatch.setitem(peer_training.SIZES, "PSCC_Net", 64)
    monkeypatch.setitem(peer_training._RATES, "PSCC_Net", 0.1)
    return settings


def test_a_peer_learns_the_masks_and_is_scored_on_test_photos(folder: Path, project) -> None:
    found = peer_training.bench_peer(folder, "PSCC_Net", 0.05, project)
    assert (found["size"], found["parameters"]) == (64, 4)
    assert found["gmac"] == pytest.approx(3 * 64 * 64 / 1e9)
    assert found["views"] > found["steps"] > 2
    assert len(found["checks"]) == 2
    scored = found["red"]
    test = manifest.read("runs/prepare").select("test", MANIPULATED).images
    assert scored["f1"]["n"] == len(test)
    assert scored["f1"]["value"] > 0.9
    assert scored["false_alarm_area"]["value"] < 0.01
    assert scored["image_auc"]["value"] == 1


def test_the_state_of_the_best_check_is_kept() -> None:
    class Peer(torch.nn.Linear):
        def forward(self, image, mask, label):
            return {"backward_loss": super().forward(image.mean((1, 2, 3))[:, None]).sum()}

    peer, states, scores = Peer(1, 1), [], iter([0.4, 0.2])

    def check() -> float:
        states.append(peer.weight.detach().clone())
        return next(scores)

    batch = Batch(torch.rand(2, 3, 4, 4), torch.zeros(2, 1, 4, 4), torch.ones(2), 2)
    found = peer_training._train(peer, repeat(batch), 0.1, 0.2, check)
    assert found["checks"] == [0.4, 0.2]
    assert torch.equal(peer.weight, states[0])
    assert not torch.equal(*states)


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
