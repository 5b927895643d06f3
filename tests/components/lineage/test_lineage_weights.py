"""Teachers' weights of versions of any time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from components.core.files import sha256_bytes
from components.lineage.checks import weights
from components.lineage.verdict import Verdict
from components.pseudo_label.registry import specs
from components.registry import schemas

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
