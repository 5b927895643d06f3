"""The design's rules about the tree itself: imports, stage deps, module size, no registry hosts."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import grimp
import pytest
import yaml

ROOT = Path(__file__).parents[1]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def tracked(*patterns: str) -> list[Path]:
    """Files git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


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


def place(module: str) -> str:
    """The path under which a stage lists a module of components/."""
    parts = module.split(".")
    if len(parts) > 1 and (ROOT / f"components/{parts[1]}.py").is_file():
        return f"components/{parts[1]}.py"
    if len(parts) > 2 and parts[1] == "stages":
        return f"components/stages/{parts[2]}.py"
    return f"components/{parts[1]}" if len(parts) > 1 else ""


@pytest.mark.parametrize("name", sorted(PIPELINE))
def test_a_stage_lists_exactly_the_packages_it_imports(name: str, graph: grimp.ImportGraph) -> None:
    stage = PIPELINE[name].get("do", PIPELINE[name])
    main = f"components.stages.{name}"
    imported = {place(m) for m in graph.find_upstream_modules(main)} | {place(main)}
    listed = {dep for dep in stage["deps"] if dep.startswith("components/")}
    assert listed == imported - {"", "components/stages"}


def test_every_stage_main_is_in_the_pipeline() -> None:
    mains = {path.stem for path in (ROOT / "components/stages").glob("*.py")} - {"__init__"}
    assert mains == set(PIPELINE)


@pytest.mark.parametrize(
    ("pattern", "most"), [("components/*.py", 300), ("flows/*.py", 300), ("tests/*.py", 400)]
)
def test_modules_are_small(pattern: str, most: int) -> None:
    lines = {path.name: len(path.read_text().splitlines()) for path in tracked(pattern)}
    assert not {name: count for name, count in lines.items() if count > most}


def test_no_pickle_is_loaded_but_in_the_one_place() -> None:
    unsafe = re.compile(
        r"pickle\.loads?\(|joblib\.load|(?<!\.)torch\.load\(|yaml\.load\(|shell=True"
    )
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in tracked("components/*.py", "flows/*.py")
        for line in path.read_text().splitlines()
        if unsafe.search(line)
    ]
    assert len(found) == 1, found
    assert "weights_only=True" in found[0]


def test_no_file_names_a_package_registry() -> None:
    hosts = re.compile(r"(py" + r"pi|python" + r"hosted|npm" + r"js)\.org")
    named = [
        str(path.relative_to(ROOT))
        for path in tracked()
        if path.suffix in {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".html", ""}
        and hosts.search(path.read_text(errors="ignore"))
    ]
    assert not named


def public_places(tree: ast.Module) -> list[ast.stmt]:
    """Statements of a module and of its classes; what a function defines is its own affair."""
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name[0] != "_"]
    return [*tree.body, *(node for part in classes for node in part.body)]


def test_public_functions_of_components_are_documented() -> None:
    bare = []
    for path in tracked("components/*.py"):
        for node in public_places(ast.parse(path.read_text())):
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_"
            if public and not ast.get_docstring(node):
                bare.append(f"{path.name}:{node.lineno} {node.name}")
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
