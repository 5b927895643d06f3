"""First weights named by a path: changed under their name, they stop the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.core import params as parameters
from components.core.errors import CheckError
from components.core.files import sha256_bytes, write_bytes, write_json
from components.pseudo_label.registry import get
from flows.pipeline import _check_weights

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("stage", ["pseudo_label", "distill"])
def test_a_file_that_changed_under_its_name_is_told(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    params = parameters.load(ROOT / "params.yaml")
    _check_weights(params, {})  # as committed, no file is named
    weights, digest = Path("own.weights"), sha256_bytes(b"first")
    write_json("runs/pseudo_label/summary.json", {"teacher": "vit_b", "teacher_sha256": digest})
    write_json("runs/distill/summary.json", {"backbone": {"name": "n", "sha256": digest}})
    values = params.model_dump(by_alias=True)
    if stage == "pseudo_label":
        values["pseudo_label"]["checkpoint"] = str(weights)
    else:
        values["distill"]["student"]["weights"] = str(weights)
    params = parameters.parse(values)
    weights.write_bytes(b"first")
    _check_weights(params, {})
    weights.write_bytes(b"other")
    with pytest.raises(CheckError, match=rf"own\.weights: .* since stage {stage} read it; give"):
        _check_weights(params, {})
    _check_weights(params, {stage: ["changed params"]})  # it is read anew in any case


def test_a_folder_whose_files_have_changed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("config.json", "model.safetensors"):
        write_bytes(Path("own") / name, b"first")
    digest = get("hf:own").weights.digest()
    summary = {"teacher": "hf:own", "teacher_sha256": digest, "teacher_licence": "unknown"}
    write_json("runs/pseudo_label/summary.json", summary)
    values = parameters.load(ROOT / "params.yaml").model_dump(by_alias=True)
    values["pseudo_label"]["teacher"] = "hf:own"
    params = parameters.parse(values)
    _check_weights(params, {})
    Path("own/config.json").write_text("second")
    with pytest.raises(CheckError, match="files have changed since stage pseudo_label"):
        _check_weights(params, {})
    _check_weights(params, {"pseudo_label": ["changed params"]})
