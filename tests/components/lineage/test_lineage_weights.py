"""Teachers' weights of versions of any time."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_transformers
from model_hub import COMMIT, NAME, Hub, serving
from pseudo_label_support import make_dataset, settings

from components.core.files import sha256_bytes
from components.core.paths import PSEUDO_LABELED
from components.lineage import record
from components.lineage.checks import weights
from components.lineage.verdict import Verdict
from components.pseudo_label.label import label_dataset
from components.pseudo_label.registry import downloadable, specs
from components.registry import documents, schemas

PINNED = "d" * 64
TREE = {
    "components/teacher/assets/sam_lite.safetensors": b"lite",
    "components/old/assets/gone.safetensors": b"gone",
    "components/teacher/checkpoints.py": f"vit_z = {PINNED!r}".encode(),
}
OFFICIAL = specs()["vit_h"].weights.sha256


@pytest.mark.parametrize(
    ("name", "digest", "tree", "verdict"),
    [
        ("grabcut", "a" * 64, {}, Verdict.VERIFIED),
        ("vit_h", OFFICIAL, {}, Verdict.VERIFIED),
        ("vit_h", "a" * 64, {}, Verdict.BROKEN),
        ("sam_lite", sha256_bytes(b"lite"), TREE, Verdict.VERIFIED),
        ("sam_lite", "a" * 64, TREE, Verdict.BROKEN),
        ("sam_lite", sha256_bytes(b"lite"), None, Verdict.UNVERIFIABLE),
        ("gone", sha256_bytes(b"gone"), TREE, Verdict.VERIFIED),  # no longer in the registry
        ("gone", "a" * 64, TREE, Verdict.BROKEN),
        ("vit_z", PINNED, TREE, Verdict.VERIFIED),
        ("vit_z", "a" * 64, TREE, Verdict.UNVERIFIABLE),
    ],
)
def test_weights_of_any_teacher(name: str, digest: str, tree: Any, verdict: Verdict) -> None:
    recorded = {"name": name, "sha256": digest}
    evidence = SimpleNamespace(tree=tree, names=schemas.of({}))
    found = weights._teacher_weights(evidence, recorded)
    assert found.verdict == verdict


def test_a_teacher_of_a_hub_from_its_labels_to_the_bill_of_materials_and_the_audit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"hf:{NAME}@{COMMIT}"
    with serving(Hub(tiny_transformers.save(tmp_path / "model", "sam2"))) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.base)
        folder = downloadable(name).fetch()
    data = make_dataset(tmp_path / "data", 2)
    labels = label_dataset(
        data, tmp_path / "data", settings(teacher=name), PSEUDO_LABELED, tmp_path / "cache"
    )
    digest = downloadable(name).sha256
    assert set(labels["teacher"]) == {name}
    assert set(labels["teacher_sha256"]) == {digest}
    found = record.teacher()
    assert found == {"name": name, "sha256": digest, "licence": "Apache-2.0"}
    made = {"git": {"commit": "c" * 40}, "stages": [], "datasets": {}, "files": {}}
    made |= {"environment": {"packages": {}}, "teacher": found}
    bom = json.loads(documents.bom("m", made))
    (part,) = [part for part in bom["components"] if part["bom-ref"] == f"teacher {name}"]
    assert part["type"] == "machine-learning-model"
    assert part["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert part["hashes"] == [{"alg": "SHA-256", "content": digest}]
    evidence = SimpleNamespace(tree={}, names=schemas.of({}))
    assert weights._teacher_weights(evidence, found).verdict == Verdict.VERIFIED
    (folder / "preprocessor_config.json").write_text("{}")
    assert weights._teacher_weights(evidence, found).verdict == Verdict.BROKEN
    (folder / "files.json").unlink()  # as where it was never fetched
    assert weights._teacher_weights(evidence, found).verdict == Verdict.UNVERIFIABLE
    gone = {**found, "name": "hf:nowhere"}
    assert weights._teacher_weights(evidence, gone).verdict == Verdict.UNVERIFIABLE
