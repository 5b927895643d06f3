"""Card, bill of materials and licences: pure functions of the lineage record."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from registry_support import RECORD

from components.core.files import sha256_json
from components.registry.documents import bom, card, summary
from components.registry.licences import licences

STUDENT = {"backbone": "tf_efficientnet_lite0", "weights": "package", "size": 64}
DISTILL = {"epochs": 3, "student": STUDENT}
METRICS = {
    "f1": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9},
    "f1_at_1_percent": {"value": 0.375, "low": 0.3, "high": 0.4, "n": 9, "threshold": 0.7},
    "image_auc": {"value": None, "low": None, "high": None, "n": 0},
    "groups": {"splice|x": {"f1": {"value": 0.25, "low": None, "high": None, "n": 1}}},
}


def record(**blocks: Any) -> dict[str, Any]:
    made: dict[str, Any] = copy.deepcopy(RECORD)
    made["stages"] = [
        {"name": "distill", "outs": ["x"], "params": {"params.yaml": {"distill": DISTILL}}}
    ]
    made["evaluation"] = {"made": {"sha256": "e" * 64, "result": METRICS}}
    return {**made, **blocks}


def test_the_card_says_what_people_ask_for() -> None:
    text = card("m", record())
    for said in (
        "## Intended use",
        "## Limits",
        "CC0-1.0",
        "Apache-2.0",
        "0.400 to 0.600",
        "c" * 40,
    ):
        assert said in text
    assert "| image AUC | not measured |" in text
    assert "| F1 at the threshold with 1 % false-alarm area | 0.375 | 0.300 to 0.400 | 9 |" in text
    assert "best threshold" not in text  # a version from before it was measured
    assert "| F1, splice\\|x | 0.250 |" in text
    assert text == card("m", record())
    assert "F1 0.500" in summary(record())


def test_what_data_sets_say_of_themselves_is_no_markup() -> None:
    hostile = {"licence": "[x](javascript:1)\n# title", "source": "<img>", "boxes_sha256": "b" * 64}
    text = card("m", record(datasets={"made": hostile}))
    assert "](javascript" not in text.replace("\\]", "")
    assert "\n# title" not in text
    assert "<img>" not in text.replace("\\<", "")


@pytest.mark.parametrize("teacher", ["grabcut", "vit_h"])
def test_the_bill_of_materials_is_valid_and_names_the_parts(teacher: str) -> None:
    made = record(teacher={"name": teacher, "sha256": "e" * 64})
    text = bom("m", made)
    assert text == bom("m", made)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found = json.loads(text)
    parts = {part["bom-ref"]: part for part in found["components"]}
    assert parts["data set made"]["type"] == "data"
    assert parts["data set made"]["licenses"] == [{"license": {"id": "CC0-1.0"}}]
    assert parts["backbone tf_efficientnet_lite0"]["type"] == "machine-learning-model"
    assert parts[f"teacher {teacher}"]["hashes"][0]["content"] == "e" * 64
    assert ("licenses" in parts[f"teacher {teacher}"]) == (teacher == "vit_h")
    assert parts["pkg:pypi/torch@2"]["version"] == "2"
    model = found["metadata"]["component"]
    assert model["type"] == "machine-learning-model"
    assert {p["name"]: p["value"] for p in model["properties"]}[
        "iml:lineage_record_sha256"
    ] == sha256_json(made)


_EXPRESSIONS = ["MIT AND Apache-2.0", "MIT OR Apache-2.0", "Apache-2.0 WITH LLVM-exception"]
_NAMED = ["unknown", "A AND B", "NOASSERTION", "LicenseRef-own", "see (c)\n<b>", "\x07", "x" * 9999]


@pytest.mark.parametrize("licence", ["GPL-2.0+", *_EXPRESSIONS, *_NAMED, ""])
def test_the_bill_of_materials_is_valid_for_any_licence(licence: str) -> None:
    data = {"licence": licence, "boxes_sha256": "b" * 64}
    text = bom("m", record(datasets={"made": data}))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    parts = {part["bom-ref"]: part.get("licenses") for part in json.loads(text)["components"]}
    said = {
        "": None,
        "GPL-2.0+": [{"license": {"id": licence}}],
        **{name: [{"expression": name}] for name in _EXPRESSIONS},
        **{name: [{"license": {"name": name}}] for name in _NAMED},
    }
    assert parts["data set made"] == said[licence]


def test_records_of_flat_parameters_give_the_same_documents() -> None:
    flat = {"params.yaml": {"distill": {"epochs": 3, **STUDENT}}}
    older = record(stages=[{"name": "distill", "outs": ["x"], "params": flat}])
    assert "3 epochs at 64 pixels" in card("m", older)
    assert card("m", older) == card("m", record())
    assert licences(older) == licences(record())


def test_licences_of_weights() -> None:
    def stage(name: str, **params: Any) -> dict[str, Any]:
        return {"name": name, "params": {"params.yaml": {name: params}}}

    lite = {"name": "sam_lite", "sha256": "e" * 64}
    own = stage("pseudo_label", checkpoint="mine.safetensors")
    hub = stage("distill", student={"backbone": "tiny_vit_5m_224", "weights": "hub"})
    file = stage("distill", student={"backbone": "tiny_vit_5m_224", "weights": "mine.safetensors"})
    none = stage("distill", student={"backbone": "tiny_vit_5m_224", "weights": "none"})
    data = {"data set made": "CC0-1.0"}
    vit = "backbone tiny_vit_5m_224"
    assert licences(record(stages=[hub])) == {**data, vit: "Apache-2.0"}
    assert licences(record(stages=[file])) == {**data, vit: "unknown"}
    assert licences(record(stages=[none])) == data
    assert licences(record(stages=[none], teacher=lite))["teacher sam_lite"] == "Apache-2.0"
    assert licences(record(stages=[none, own], teacher=lite))["teacher sam_lite"] == "unknown"
