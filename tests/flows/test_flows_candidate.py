"""That a version is judged by its own evidence alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import InputError
from components.core.files import sha256_file
from components.registry.chain import Row
from flows import candidate

STUDENT = "runs/export/student.safetensors"
RESULTS = ("runs/validate/result.json", "runs/evaluate/made/metrics.json")
OUTS = (
    "runs/export/parity.json",
    "runs/evaluate/made/images.parquet",
    "runs/prepare/manifest.parquet",
    "runs/prepare/boxes.parquet",
)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Row, dict[str, Any]]:
    """A workspace after its stages: the `registered` row of its student, and the record."""
    monkeypatch.chdir(tmp_path)
    for name in (STUDENT, *RESULTS, *OUTS):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
    facts = json.dumps({"files": {"student.safetensors": sha256_file(STUDENT)}})
    born = Row("m", 1, "registered", 2, "", "ann", "made", facts, None, "", "")
    outs = [
        {"path": name, "md5": hashlib.md5(Path(name).read_bytes()).hexdigest()} for name in OUTS
    ]
    record = {
        "stages": [{"name": "all", "outs": outs}],
        "validation": {"sha256": sha256_file(RESULTS[0])},
        "evaluation": {"made": {"sha256": sha256_file(RESULTS[1])}},
    }
    return born, record


def test_the_versions_own_evidence_is_judged(made: tuple[Row, dict[str, Any]]) -> None:
    candidate._check_same_version(*made, "made")


@pytest.mark.parametrize("name", [STUDENT, *RESULTS, *OUTS])
@pytest.mark.parametrize("gone", [False, True])
def test_what_is_not_the_versions_is_refused(
    made: tuple[Row, dict[str, Any]], name: str, gone: bool
) -> None:
    Path(name).unlink() if gone else Path(name).write_text('{"f1": {"value": 0.99}}')
    with pytest.raises(InputError, match=r"is not m/2's; run `iml run`") as caught:
        candidate._check_same_version(*made, "made")
    assert caught.value.where == name


def test_what_made_the_version_again_is_judged_by_its_own_lock(
    made: tuple[Row, dict[str, Any]],
) -> None:
    """A table may have another column, as long as student and results are the same."""
    manifest = Path(OUTS[2])
    manifest.write_text("another column")
    made[1]["stages"][0]["outs"][2]["md5"] = "of that time"
    with pytest.raises(InputError, match="is not m/2's"):
        candidate._check_same_version(*made, "made")
    outs = [
        {"path": name, "md5": hashlib.md5(Path(name).read_bytes()).hexdigest()} for name in OUTS
    ]
    Path("dvc.lock").write_text(json.dumps({"stages": {"all": {"outs": outs}}}))
    candidate._check_same_version(*made, "made", again=True)
    manifest.write_text("another one")
    with pytest.raises(InputError, match="is not m/2's"):
        candidate._check_same_version(*made, "made", again=True)


def test_a_data_set_that_the_version_was_not_measured_on_is_refused(
    made: tuple[Row, dict[str, Any]],
) -> None:
    with pytest.raises(InputError, match=r"other/metrics\.json"):
        candidate._check_same_version(*made, "other")


def test_without_a_record_the_gates_refuse(made: tuple[Row, dict[str, Any]]) -> None:
    candidate._check_same_version(made[0], None, "made")
    Path(STUDENT).write_text("other")
    with pytest.raises(InputError, match="is not m/2's"):
        candidate._check_same_version(made[0], None, "made")
