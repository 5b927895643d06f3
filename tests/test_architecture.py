"""The design's rules about the tree itself: imports, stage deps, no registry hosts."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import grimp
import pytest
import yaml
from project import ROOT, tracked

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def test_each_layer_imports_only_those_below_it() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("components", cache_dir=None)


def source(module: str) -> Path:
    """The file of a module."""
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def behind(stage: str, graph: grimp.ImportGraph) -> set[str]:
    """A stage's modules and all that they import, without the packages around them."""
    found = {f"components.{stage}.__main__"}
    if stage == "pseudo_label":  # which finds teachers at run time
        found |= graph.find_descendants("components.pseudo_label.teachers")
    found |= {module for root in found for module in graph.find_upstream_modules(root)}
    return {module for module in found if not graph.find_children(module)}


def cover(stage: str, graph: grimp.ImportGraph) -> set[str]:
    """The deps of a stage: its package, and the modules it imports, whole packages as one."""
    modules, places = behind(stage, graph), set()
    for package in {module.split(".")[1] for module in modules}:
        inner = graph.find_descendants(f"components.{package}")
        every = {module for module in inner if not graph.find_children(module)}
        own = {module for module in modules if module.split(".")[1] == package}
        whole = package == stage or own == every
        files = {source(module).relative_to(ROOT).as_posix() for module in own}
        places |= {f"components/{package}"} if whole else files
    return places


def watched(stage: str) -> set[str]:
    """What a stage's deps list of the code."""
    block = PIPELINE[stage].get("do", PIPELINE[stage])
    return {dep for dep in block["deps"] if dep.startswith("components/")}


@pytest.mark.parametrize("stage", sorted(PIPELINE))
def test_a_stage_lists_exactly_what_it_imports(stage: str, graph: grimp.ImportGraph) -> None:
    assert watched(stage) == cover(stage, graph)


def lines(paths: Iterable[Path]) -> int:
    return sum(len(path.read_text().splitlines()) for path in paths)


@pytest.mark.parametrize("stage", sorted(PIPELINE))
def test_a_stage_watches_little_that_it_does_not_import(
    stage: str, graph: grimp.ImportGraph
) -> None:
    imported = lines(source(module) for module in behind(stage, graph))
    files = {
        path
        for place in watched(stage)
        for path in ((ROOT / place).rglob("*.py") if (ROOT / place).is_dir() else [ROOT / place])
    }
    assert imported / lines(files) >= 0.8


def test_every_stage_is_a_package() -> None:
    mains = {path.parent.name for path in (ROOT / "components").glob("*/__main__.py")}
    assert mains == set(PIPELINE)


EDITED = (
    "components/ingest/formats/voc.py",
    "components/templates/evaluation.html",
    "components/serving/score.py",
    "components/registry/gates.py",
    "components/lineage/audit.py",
    "flows/cli/run.py",
    "benchmarks/teacher.py",
    "research/sam_lite/train.py",
    "components/data/boxes.py",
    "components/data/splits.py",
    "components/validate/checks.py",
    "components/pseudo_label/prompts.py",
    "components/synthesis/splices.py",
    "components/distill/losses.py",
    "components/student/fusion.py",
    "components/core/metrics.py",
    "components/evaluate/calibration.py",
    "components/export/onnx.py",
)


def reruns(edited: str) -> tuple[list[str], list[str]]:
    """Stages that watch a file, and those that read what these write, one after another."""
    blocks = {name: stage.get("do", stage) for name, stage in PIPELINE.items()}
    first = [
        name
        for name, block in blocks.items()
        if any(edited == dep or edited.startswith(f"{dep}/") for dep in block["deps"])
    ]
    changed, after = set(first), []
    for name, block in blocks.items():  # dvc.yaml lists each stage after those it reads from
        if name not in changed and any(
            f"{dep}/".startswith(f"runs/{other}/") for dep in block["deps"] for other in changed
        ):
            changed.add(name)
            after.append(name)
    return first, after


def test_the_table_of_reruns_is_right() -> None:
    rows = []
    for edited in EDITED:
        assert (ROOT / edited).is_file(), edited
        cells = (", ".join(names) or "none" for names in reruns(edited))
        rows.append(f"| `{edited}` | {' | '.join(cells)} |")
    document = (ROOT / "docs/ARCHITECTURE.md").read_text()
    shown = document.partition("<!-- reruns")[2].partition("<!-- end -->")[0]
    assert shown.splitlines()[3:] == rows, "the table should be:\n" + "\n".join(rows)


def test_no_pickle_is_loaded_but_in_the_one_place() -> None:
    unsafe = re.compile(
        r"pickle\.loads?\(|joblib\.load|(?<!\.)torch\.load\(|yaml\.load\(|shell=True"
    )
    found = [
        f"{name}: {line.strip()}"
        for name in tracked("components/*.py", "flows/*.py", "benchmarks/*.py", "research/*.py")
        for line in (ROOT / name).read_text().splitlines()
        if unsafe.search(line)
    ]
    assert len(found) == 1, found
    assert "weights_only=True" in found[0]


def test_no_file_names_a_package_registry() -> None:
    hosts = re.compile(r"(py" + r"pi|python" + r"hosted|npm" + r"js)\.org")
    named = [
        name
        for name in tracked()
        if Path(name).suffix in {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".html", ""}
        and hosts.search((ROOT / name).read_text(errors="ignore"))
    ]
    assert not named


def public_places(tree: ast.Module) -> list[ast.stmt]:
    """Statements of a module and of its classes; what a function defines is its own affair."""
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name[0] != "_"]
    return [*tree.body, *(node for part in classes for node in part.body)]


def test_public_functions_of_components_are_documented() -> None:
    bare = []
    for name in tracked("components/*.py"):
        for node in public_places(ast.parse((ROOT / name).read_text())):
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_"
            if public and not ast.get_docstring(node):
                bare.append(f"{name}:{node.lineno} {node.name}")
    assert not bare


def test_help_needs_no_heavy_import() -> None:
    code = (
        "import sys, flows.cli.main;"
        "heavy = {'torch','mlflow','prefect','great_expectations','pandas','timm','cv2','dvc',"
        "'numpy','sqlalchemy'} & set(sys.modules); print(sorted(heavy)); sys.exit(bool(heavy))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
