"""The lineage record of a real git and DVC workspace with two tiny stages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.core.errors import CheckError, InputError
from components.core.files import sha256_file, sha256_json
from components.lineage import record

PARAMS = {
    "prepare": {"datasets": ["made"], "seed": 7},
    "distill": {"seed": 8, "threads": 1},
    "evaluate": {"datasets": ["made"], "seed": 9, "threads": 2},
}
PIPELINE = {
    "stages": {
        # Written last and run first: the record follows the graph.
        "second": {"cmd": "cp runs/first.txt runs/second.txt", "deps": ["runs/first.txt"],
                   "outs": ["runs/second.txt"]},
        "first": {"cmd": "cp data/made/boxes.json runs/first.txt", "deps": ["data/made"],
                  "params": ["prepare"], "outs": ["runs/first.txt"]},
    }
}  # fmt: skip


def run(root: Path, *command: str) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def commit(root: Path) -> None:
    run(root, "git", "add", "--all")
    run(root, "git", "-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "-qm", "x")


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which everything has run."""
    root = tmp_path_factory.mktemp("workspace")
    run(root, "git", "init", "-q")
    run(root, "dvc", "init", "-q")
    write(root / "data/made/boxes.json", {"images": []})
    dataset = {"name": "made", "licence": "CC0-1.0", "source": "made up", "boxes": "given"}
    (root / "data/made/dataset.yaml").write_text(yaml.safe_dump(dataset))
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (root / "dvc.yaml").write_text(yaml.safe_dump(PIPELINE, sort_keys=False))
    (root / ".gitignore").write_text("/data\n")
    (root / "runs").mkdir()
    run(root, "dvc", "repro", "-q")
    write(root / "runs/pseudo_label/summary.json", {"teacher": "grabcut", "teacher_sha256": "t"})
    backbone = {"name": "b", "weights": "package", "sha256": "w"}
    write(root / "runs/distill/summary.json", {"backbone": backbone})
    write(root / "runs/validate/result.json", {"passed": True})
    write(root / "runs/evaluate/made/metrics.json", {"f1": {"value": 0.5}})
    write(root / "runs/export/student.json", {"size": 64})
    commit(root)
    return root


@pytest.fixture
def workspace(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    return made


def test_it_holds_what_the_design_says(workspace: Path) -> None:
    found = record.collect(PARAMS)
    assert found["schema"] == record.SCHEMA
    assert found["git"]["clean"]
    assert len(found["git"]["commit"]) == 40
    assert found["dvc_lock"]["sha256"] == sha256_file("dvc.lock")
    assert found["dvc_lock"]["text"] == Path("dvc.lock").read_text()
    assert [stage["name"] for stage in found["stages"]] == ["first", "second"]
    first, second = found["stages"]
    locked = yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    assert first["deps"][0]["md5"] == locked["first"]["deps"][0]["md5"]
    assert first["deps"][0]["nfiles"] == 2
    assert first["params"] == {"params.yaml": {"prepare": PARAMS["prepare"]}}
    assert first["outs"][0]["md5"] == second["deps"][0]["md5"]
    assert found["datasets"]["made"]["licence"] == "CC0-1.0"
    assert found["dvc_lock"]["committed"] is True
    assert found["teacher"] == {"name": "grabcut", "sha256": "t"}
    assert found["backbone"] == {"name": "b", "weights": "package", "sha256": "w"}
    assert found["validation"]["result"] == {"passed": True}
    assert found["evaluation"]["made"]["result"] == {"f1": {"value": 0.5}}
    assert found["files"] == {"student.json": sha256_file("runs/export/student.json")}
    assert found["seeds_and_threads"] == {
        "prepare.seed": 7,
        "distill.seed": 8,
        "distill.threads": 1,
        "evaluate.seed": 9,
        "evaluate.threads": 2,
    }
    environment = found["environment"]
    assert environment["packages"]["torch"] == version("torch")
    assert environment["cpu"]
    assert environment["python"].startswith("3.")


def test_it_is_the_same_twice_and_names_no_path_of_this_machine(workspace: Path) -> None:
    found = record.collect(PARAMS)
    assert sha256_json(found) == sha256_json(record.collect(PARAMS))
    assert sha256_json(json.loads(json.dumps(found))) == sha256_json(found)
    assert str(workspace) not in json.dumps(found)


def test_an_uncommitted_change_is_in_it(workspace: Path) -> None:
    try:
        Path("new.py").write_text("1")
        assert record.collect(PARAMS)["git"]["dirty"] == ["new.py"]
    finally:
        Path("new.py").unlink()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("data/made/dataset.yaml", None, "data/made/dataset.yaml: no such file"),
        ("data/made/dataset.yaml", "name: made", "names no licence"),
        ("data/made/dataset.yaml", "licence: ''", "names no licence"),
        ("data/made/dataset.yaml", "[", "not valid YAML"),
        ("data/made/boxes.json", None, "boxes.json: no such file"),
        ("runs/pseudo_label/summary.json", "{}", "names no teacher_sha256"),
        ("runs/distill/summary.json", "{}", "names no backbone"),
        ("runs/validate/result.json", None, "result.json: no such file"),
        ("runs/evaluate/made/metrics.json", "{", "not valid JSON"),
        ("dvc.lock", None, "dvc.lock: no such file"),
        ("dvc.lock", "schema: '2.0'\nstages: {}", "stage first has not run"),
    ],
)
def test_what_is_missing_is_named(workspace: Path, name: str, text: str | None, said: str) -> None:
    path = Path(name)
    before = path.read_bytes()
    try:
        path.unlink()
        if text is not None:
            path.write_text(text)
        with pytest.raises(InputError, match=said.replace(".", r"\.")):
            record.collect(PARAMS)
    finally:
        path.write_bytes(before)


def test_without_a_commit_there_is_no_record(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dvc.lock").write_text(Path("dvc.lock").read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(CheckError):
        record.collect(PARAMS)
