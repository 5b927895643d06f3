"""First weights named by a path: changed under their name, they stop the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.core import params as parameters
from components.core.errors import CheckError
from components.core.files import sha256_bytes, write_json
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
