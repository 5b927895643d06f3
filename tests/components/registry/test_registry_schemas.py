"""What records call things: of old schemas by history, of later ones by what they carry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from components.data import manifest
from components.evaluate.run import IMAGES
from components.lineage.record import LAYOUT, SCHEMA
from components.pseudo_label.label import LABELS
from components.registry import curve, schemas

ROOT = Path(__file__).parents[3]


def record(params: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"stages": [{"name": "x", "params": {"params.yaml": params}}], **more}


def test_what_new_records_carry_is_what_this_program_calls_things() -> None:
    written = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert {name.partition("@")[0] for name in LAYOUT["stages"].values()} <= written.keys()
    found = schemas.of(record(params, layout=LAYOUT)).parameters()
    for key in LAYOUT["parameters"].values():
        assert any(name == key or name.startswith(f"{key}.") for name in found), key
    outs = set()
    for block in written.values():
        block = block.get("do", block)
        outs |= {*block["outs"], *block.get("metrics", [])}
    inner = {path.replace("${item}", "{dataset}") for path in outs}
    assert {path for path in LAYOUT["paths"].values() if path.startswith("runs/")} <= inner
    assert (ROOT / LAYOUT["paths"]["server"]).is_file()
    tables = {
        "manifest": manifest.IMAGES,
        "boxes": manifest.BOXES,
        "labels": LABELS,
        "images": IMAGES,
    }
    for name, schema in tables.items():
        assert set(LAYOUT["columns"][name].values()) <= set(schema.names), name


def test_a_record_is_read_by_the_names_that_it_carries() -> None:
    later = {"parameters": {"dataset": "inputs.set"}, "paths": {"boxes": "out/b.parquet"}}
    names = schemas.of(record({"inputs": {"set": "a"}}, schema=SCHEMA + 1, layout=later))
    assert (names.parameter("dataset"), names.path("boxes")) == ("a", "out/b.parquet")
    # What it leaves out is called as before.
    assert names.path("images", "a") == "runs/evaluate/a/images.parquet"
    assert names.stage("evaluation", "a") == "evaluate@a"
    assert names.parameter("teacher") is None


def test_a_student_among_the_keys_of_its_training_is_the_same_student() -> None:
    student = {"backbone": "b", "weights": "none", "gates": True}
    flat = schemas.of(record({"distill": {"seed": 7, **student}, "prepare.dataset": "a"}, schema=2))
    nested = schemas.of(record({"distill": {"seed": 7, "student": student}}, schema=2))
    assert flat.parameters() == {**nested.parameters(), "prepare.dataset": "a"}
    assert flat.datasets() == ["a"]
    assert flat.columns("manifest", ["path", "dataset", "pool"]) == {"path": "path"}
    assert flat.parameter("backbone") == "b"
    assert flat.parameters_of("training")["student.gates"] is True


@pytest.mark.parametrize("more", [[], ["momentum"]])
def test_a_curve_has_the_columns_of_its_file(more: list[str]) -> None:
    text = ",".join(["epoch", "lr", *more]) + "\n" + ",".join(["1", "0.5", *["0.9" for _ in more]])
    assert [point.name for point in curve.points(text.encode(), "history.csv")] == ["lr", *more]
