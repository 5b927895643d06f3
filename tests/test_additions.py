"""docs/ARCHITECTURE.md, "Where to add something": each addition in a copy of the project."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from project import BIN, ROOT, copy_project
from pseudo_label_support import make_dataset

from components.data.manifest import write


class Project:
    """A copy of the project that tests extend."""

    def __init__(self, root: Path) -> None:
        self.root = root
        code = ("components/", "flows/", "benchmarks/", "research/")
        copy_project(root, lambda name: name.startswith(code) or "/" not in name)

    def write(self, name: str, text: str) -> None:
        """A new file."""
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)

    def change(self, name: str, before: str, after: str) -> None:
        """Another text at one place of a file."""
        text = (self.root / name).read_text()
        assert text.count(before) == 1, f"{name}: {before}"
        (self.root / name).write_text(text.replace(before, after))

    def run(self, *command: str, code: int = 0) -> str:
        """A command here, which must end with this exit code: its stdout, or what it refuses."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env={
                **os.environ,
                "PYTHONPATH": str(self.root),
                "IML_STATE": str(self.root / ".state"),
                "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr if code else done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


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


def test_a_teacher(project: Project) -> None:
    write(project.root / "runs/prepare", make_dataset(project.root / "data/demo", 3).below("demo"))
    project.change("params.yaml", "teacher: sam_lite", "teacher: half")
    stage = ("python", "-m", "components.pseudo_label")
    assert "no teacher is called 'half'" in project.run(*stage, code=2)
    project.write("components/pseudo_label/teachers/half.py", TEACHER)
    assert "3 photos labelled by half" in project.run(*stage)
    summary = json.loads((project.root / "runs/pseudo_label/summary.json").read_text())
    assert summary["teacher"] == "half"
    listed = json.loads(project.run("iml", "teacher", "list", "--json"))
    assert "half" in {row["name"] for row in listed}


READER = '''"""Lines of `photo x y width height`."""

from __future__ import annotations

from pathlib import Path

from components.ingest.formats.record import Box, Reading, Record
from components.ingest.formats.source import Source


def matches(source: Source) -> bool:
    """A text file with this suffix."""
    return source.path.suffix == ".lines"


def read(source: Source) -> Reading:
    """One record per line."""
    records = []
    for line in source.path.read_text().splitlines():
        name, *numbers = line.split()
        boxes = (Box(*map(float, numbers)),) if numbers else ()
        label = "manipulated" if boxes else "authentic"
        records.append(Record(source.root / name, name, label, boxes=boxes))
    return Reading(records)
'''


def test_a_reader(project: Project) -> None:
    project.write("components/ingest/formats/lines.py", READER)
    registry = "components/ingest/formats/registry.py"
    project.change(registry, "    labelstudio,\n", "    labelstudio,\n    lines,\n")
    project.change(
        registry,
        "FORMATS = {\n",
        'FORMATS = {\n    "lines": Format(lines.matches, lines.read, "lines of boxes"),\n',
    )
    draw = np.random.default_rng(1)
    for name in ("a.png", "b.png"):
        pixels = draw.integers(0, 255, (48, 64, 3), np.uint8)
        (project.root / "in").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(project.root / "in" / name)
    project.write("in/all.lines", "a.png 4 4 20 16\nb.png\n")
    arguments = ("in/all.lines", "--name", "mine", "--licence", "none", "--no-track", "--json")
    said = json.loads(project.run("iml", "dataset", "import", *arguments))
    index = json.loads((project.root / "data/mine/boxes.json").read_text())
    assert said["photos"] == len(index["images"]) == 2
    assert [row["bbox"] for row in index["annotations"]] == [[4.0, 4.0, 20.0, 16.0]]


GATED = """
from components.core import params
from components.registry.gates import judge, GateEvidence
settings = params.load().promotion
names = GateEvidence.__dataclass_fields__
nothing = GateEvidence(**{name: None for name in names} | {"metrics": {"mcc": {"value": 0.4}}})
print([gate.passed for gate in judge(1, nothing, settings) if gate.name == "min_mcc"])
"""


def test_a_gate(project: Project) -> None:
    project.change(
        "components/core/params.py",
        "    max_ece: Share | None\n",
        "    max_ece: Share | None\n    min_mcc: Share | None = None\n",
    )
    project.change(
        "components/registry/gates.py",
        '        "min_robustness": (',
        '        "min_mcc": ("MCC", *_measured(metrics, "mcc")),\n        "min_robustness": (',
    )
    assert project.run("python", "-c", GATED) == "[]\n"  # null by default: not asked for
    for threshold, passed in (("0.3", True), ("0.5", False)):
        text = (ROOT / "params.yaml").read_text()
        text = text.replace("    max_ece: null", f"    min_mcc: {threshold}\n    max_ece: null")
        project.write("params.yaml", text)
        assert project.run("python", "-c", GATED) == f"[{passed}]\n"


STAGE = '''"""Stage `count`: how many parameters params.yaml has."""

from __future__ import annotations

from components.core import params
from components.core.errors import exit_on_error
from components.core.files import write_json
from components.core.paths import RUNS


def main() -> None:
    """Write runs/count/result.json."""
    write_json(RUNS / "count/result.json", {"blocks": len(params.load().model_dump())})


if __name__ == "__main__":
    with exit_on_error():
        main()
'''
BLOCK = """
  count:
    cmd: python -m components.count
    deps:
      - components/core/errors.py
      - components/core/files.py
      - components/core/params.py
      - components/core/paths.py
      - components/count
    metrics:
      - runs/count/result.json
"""


def test_a_stage(project: Project) -> None:
    project.write("components/count/__init__.py", '"""Stage `count`."""\n')
    project.write("components/count/__main__.py", STAGE)
    project.change("dvc.yaml", "\nplots:\n", f"{BLOCK}\nplots:\n")
    project.change("pyproject.toml", '    "index | prepare', '    "count | index | prepare')
    project.run("git", "init", "--quiet")
    project.run("dvc", "init", "--quiet")
    project.run("dvc", "repro", "--single-item", "count")
    assert json.loads((project.root / "runs/count/result.json").read_text()) == {"blocks": 8}
    project.run("lint-imports", "--no-cache")
    rules = "tests/test_architecture.py"
    for name in (rules, "tests/project.py"):
        project.write(name, (ROOT / name).read_text())
    project.run("python", "-m", "pytest", "-q", rules, "-k", "count or package")
