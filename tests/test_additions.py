"""What may be added in few files, added in a temporary copy of the project and run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from pseudo_label_support import make_dataset

from components.data.manifest import write

ROOT = Path(__file__).parents[1]
TEACHER = '''
from components.pseudo_label.registry import TeacherSpec
from components.pseudo_label.teachers.baselines import Box


class Half(Box):
    """A box that calls itself otherwise."""

    def __init__(self):
        super().__init__()
        self.name = "half"


SPECS = (TeacherSpec("half", "a test", lambda params, weights: Half(), (__name__,)),)
'''


def copy_of_the_project(folder: Path) -> dict[str, str]:
    """The project's code below a folder, and the environment that runs it."""
    for part in ("components", "flows"):
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, folder / part, ignore=skip)
    return os.environ | {"PYTHONPATH": str(folder), "IML_STATE": str(folder / "state")}


def test_a_teacher_is_one_new_file(tmp_path: Path) -> None:
    environment = copy_of_the_project(tmp_path)
    write(tmp_path / "runs/prepare", make_dataset(tmp_path / "data/demo", 3))
    committed = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(committed.replace("teacher: sam_lite", "teacher: half"))

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    before = run("-m", "components.pseudo_label")
    assert before.returncode == 2
    assert "no teacher is called 'half'" in before.stderr
    (tmp_path / "components/pseudo_label/teachers/half.py").write_text(TEACHER)
    done = run("-m", "components.pseudo_label")
    assert "3 photos labelled by half" in done.stdout, done.stderr
    summary = json.loads((tmp_path / "runs/pseudo_label/summary.json").read_text())
    assert summary["teacher"] == "half"
    listed = run("-c", "from flows.cli.teacher import app; app()", "list", "--json")
    assert "half" in {row["name"] for row in json.loads(listed.stdout)}, listed.stderr
