"""Fetching versions: files and record are what the ledger says, or nobody gets them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from project import BIN, ROOT

from components.core.errors import CheckError, EvidenceError, InputError, UnavailableError
from components.registry import layout
from components.registry.downloads import fetch, unknown_to
from components.registry.promotion import rollback
from components.registry.versions import Registry


def stored(tmp_path: Path, content: str, name: str) -> Path:
    """A registered version's file in MLflow's artifact folder."""
    found = [
        path
        for path in (tmp_path / "state/mlflow/artifacts").rglob(name)
        if path.read_text().startswith(content)
    ]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("name", ["student.safetensors", "student.json", "student.onnx"])
def test_a_changed_file_is_refused_at_load_and_rollback(
    own_two: Registry, tmp_path: Path, name: str
) -> None:
    stored(tmp_path, "a ", name).write_text("other")
    for action in (
        lambda: fetch("m/1"),
        lambda: rollback(own_two, 1, actor="bob", reason="because"),
    ):
        with pytest.raises(CheckError, match=f"m/1: artifacts/{name} was changed"):
            action()
    assert own_two.ledger.champion("m") == 2
    fetch("m@champion")


def test_a_missing_file_and_a_changed_record_are_refused(own_two: Registry, tmp_path: Path) -> None:
    record = stored(tmp_path, "b ", "student.json").parents[1] / "lineage/record.json"
    text = record.read_text()
    record.write_text(text.replace("grabcut", "vit_h"))
    with pytest.raises(CheckError, match=r"lineage/record\.json was changed"):
        fetch("m/2")
    stored(tmp_path, "b ", "student.onnx").unlink()
    record.write_text(text)
    with pytest.raises(CheckError, match=r"artifacts/student\.onnx is missing"):
        fetch("m/2")


def test_a_changed_file_in_the_local_cache_is_fetched_again(two: Registry) -> None:
    folder = fetch("m/1").folder
    (folder / "student.json").write_text("other")
    assert fetch("m/1")[:3] == (folder, "m", 1)
    assert (folder / "student.json").read_text() == "a student.json"


def test_a_kept_copy_answers_without_mlflow(two: Registry) -> None:
    folder = fetch("m@champion").folder
    code = (
        "import sys; from components.registry.downloads import fetch\n"
        "print(fetch('m@champion').folder); print('mlflow' in sys.modules)"
    )
    away = {**os.environ, "MLFLOW_TRACKING_URI": "http://127.0.0.1:1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=away, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(folder), "False"]


def test_where_the_ledger_is_away_its_last_champion_answers(
    two: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fetch("m/1")
    folder = fetch("m@champion").folder
    monkeypatch.setenv("IML_LEDGER_URL", "postgresql://iml@127.0.0.1:1/ledger")
    for reference in ("m@champion", "m/2"):
        caplog.clear()
        assert fetch(reference)[:3] == (folder, "m", 2)
        assert "using the local copy of m/2, champion when the ledger was last read" in caplog.text
    with pytest.raises(UnavailableError):
        fetch("m/1")
    for path in folder.parents[2].glob("m.json"):
        path.write_text("{}")
    with pytest.raises(UnavailableError):
        fetch("m@champion")


def test_the_store_says_what_it_holds(own_two: Registry) -> None:
    store = own_two.store
    assert [store.holds("m", number) for number in (1, 2, 3)] == [True, True, False]
    assert not store.holds("unknown", 1)
    store._client.delete_model_version("m", "2")
    assert not store.holds("m", 2)


def test_references(two: Registry, tmp_path: Path) -> None:
    assert fetch(str(tmp_path))[:3] == (tmp_path, str(tmp_path), None)
    for wrong in ("m", "m@other", "m/x", "m/", "/1", "m@", "no/such/folder", "it's/1"):
        with pytest.raises(InputError):
            fetch(wrong)
    with pytest.raises(InputError, match="has no champion"):
        fetch("unknown@champion")


def test_a_manifest_of_another_time_is_read_by_the_columns_it_needs(tmp_path: Path) -> None:
    path = tmp_path / layout.MANIFEST
    path.parent.mkdir(parents=True)
    known = pd.DataFrame({"camera": ["x", "y"], "sha256": ["a", "b"], "split": ["train", "test"]})
    known.to_parquet(path)
    photos = pd.DataFrame({"sha256": ["a", "b", "c"]})
    assert unknown_to(tmp_path, photos)["sha256"].tolist() == ["b", "c"]
    known.drop(columns="split").to_parquet(path)
    with pytest.raises(InputError, match=r"manifest\.parquet: has no column split"):
        unknown_to(tmp_path, photos)


def test_a_run_that_mlflow_gc_erased_is_named(own_two: Registry, tmp_path: Path) -> None:
    run = own_two.rows()[0].facts()["run_id"]
    own_two.store._client.delete_run(run)
    assert fetch("m/1")[:3] == (fetch("m/1").folder, "m", 1)  # until then MLflow has all of it
    shutil.rmtree(tmp_path / "state/cache")
    collect_garbage(own_two.store._uri, run)
    with pytest.raises(EvidenceError) as caught:
        fetch("m/1")
    line = f"m/1: MLflow no longer has its run {run}, which held the signature; restore MLflow's"
    assert caught.value.line().startswith(line)
    assert fetch("m@champion").version == 2


def collect_garbage(store: str, run: str) -> None:
    """`mlflow gc` of a run that was deleted."""
    command = [str(BIN / "mlflow"), "gc", "--backend-store-uri", store, "--run-ids", run]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": store}
    subprocess.run(command, env=environment, capture_output=True, check=True)
