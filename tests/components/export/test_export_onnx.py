from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from components.core.errors import CheckError, InputError
from components.core.paths import DISTILLED, PARITY
from components.export import onnx as exporter
from components.export.__main__ import main
from components.export.onnx import check_parity, differences, export
from components.student import store
from components.student.infer import probabilities
from components.student.model import MAX_MEGABYTES

ROOT = Path(__file__).parents[3]
SIZES = [[64, 64], [96, 160], [75, 50]]


@pytest.mark.parametrize(
    ("backbone", "prototypes"),
    [("tf_efficientnet_lite0", 8), ("mobilenetv3_large_100", 0), ("tiny_vit_5m_224", 8)],
)
def test_agrees_at_any_size(make, tmp_path, backbone, prototypes):
    student, path = make(backbone=backbone, prototypes=prototypes), tmp_path / "student.onnx"
    export(student, path)
    assert [p.name for p in tmp_path.iterdir()] == ["student.onnx"]
    assert path.stat().st_size < MAX_MEGABYTES * 1e6
    onnx.checker.check_model(str(path))
    check_parity(differences(student, path, SIZES), 1e-4)


def test_windowed_attention_agrees_where_its_windows_fit_and_where_not(make, tmp_path):
    """The student's own size needs no padding, as most other sizes do."""
    student, path = make(backbone="tiny_vit_5m_224", size=224), tmp_path / "student.onnx"
    export(student, path)
    sizes = [[224, 224], [448, 224], [256, 256], [192, 320], [1, 50], [7, 33]]
    check_parity(differences(student, path, sizes), 1e-4)


def test_a_size_at_which_the_graph_does_not_run_is_one_clear_line(
    make, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr(exporter, "TRACED", 224)  # a size without padding
    student, path = make(backbone="tiny_vit_5m_224", size=224), tmp_path / "student.onnx"
    export(student, path)
    check_parity(differences(student, path, [[224, 224]]), 1e-4)
    with pytest.raises(CheckError, match="ONNX Runtime fails at 256x256") as caught:
        differences(student, path, [[256, 256]])
    assert "Reshape" in caught.value.line()
    assert "\n" not in caught.value.line()
    assert capfd.readouterr().err == ""


def test_every_switch_is_in_the_graph(make, tmp_path):
    student = make(backbone="mobilenetv3_large_100", gates=False, alpha=0.3, frontend="highpass")
    with torch.no_grad():
        student.frontend.mix.weight.normal_(0, 0.3)
    student.config = student.config.model_copy(update={"temperature": 2.0})
    export(student, tmp_path / "student.onnx")
    check_parity(differences(student, tmp_path / "student.onnx", SIZES), 1e-4)
    with torch.no_grad():
        student.frontend.mix.weight.zero_()
    with pytest.raises(CheckError, match="differs from torch"):
        check_parity(differences(student, tmp_path / "student.onnx", SIZES), 1e-4)


def test_the_check_sees_another_student(make, tmp_path):
    student = make()
    export(student, tmp_path / "student.onnx")
    with torch.no_grad():
        student.fusion.head.bias += 0.01
    with pytest.raises(CheckError, match=r"differs from torch by 0\.00\d+ .* at 64x64"):
        check_parity(differences(student, tmp_path / "student.onnx", SIZES), 1e-4)


def test_nan_is_no_agreement():
    with pytest.raises(CheckError, match="nan"):
        check_parity([{"height": 1, "width": 1, "largest_difference": float("nan")}], 1e-4)


def test_runs_without_torch_as_infer_does(make, tmp_path):
    student = make()
    export(student, tmp_path / "student.onnx")
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(tmp_path / "student.onnx")
    batch = (photo.transpose(2, 0, 1)[None] / 255).astype(np.float32)
    (found,) = session.run(["probability"], {"photo": batch})
    np.testing.assert_allclose(found[0, 0], probabilities(student, [photo])[0], atol=1e-4)


def test_same_student_same_file(make, tmp_path):
    for name in ("a.onnx", "b.onnx"):
        export(make(), tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_the_stage_says_the_same_whatever_the_number_of_threads(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    store.save(make(backbone="tf_efficientnet_lite0", size=192), DISTILLED)
    said = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        main()
        said.append(PARITY.read_bytes())
    assert said[0] == said[1]


def test_file_that_is_no_onnx(make, tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"no")
    with pytest.raises(InputError, match="not an ONNX file"):
        differences(make(), tmp_path / "x.onnx", SIZES)
