"""What `pip install boxpromptiml[serve]` brings: enough to predict, within 350 MB, nothing more."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image
from project import ROOT, tracked
from small_students import small_student

from components.export.onnx import save

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LIMIT = 350  # MB
HEAVY = ("torch", "timm", "mlflow", "dvc", "prefect", "great_expectations", "pandas", "cv2")


def required(*extras: str) -> set[str]:
    """The distributions that an installation with these extras has, without pip's own."""
    todo = [Requirement(line) for line in PROJECT["dependencies"]]
    for extra in extras:
        todo += [Requirement(line) for line in PROJECT["optional-dependencies"][extra]]
    found: dict[str, set[str]] = {}
    while todo:
        wanted = todo.pop()
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if name in found and wanted.extras <= found[name]:
            continue
        found[name] = found.get(name, set()) | wanted.extras
        for line in distribution(name).requires or []:
            needs = Requirement(line)
            offered = [{"extra": extra} for extra in ("", *wanted.extras)]
            if needs.marker is None or any(needs.marker.evaluate(one) for one in offered):
                todo.append(needs)
    return set(found)


def test_nothing_brings_what_slows_each_start_of_prefect() -> None:
    """Prefect imports jsonschema, which imports this grammar of addresses where it is installed."""
    assert "rfc3987-syntax" not in required("dev")


def files(names: set[str]) -> Iterator[tuple[Path, Path]]:
    """Files of distributions: their paths below a folder of packages, and where they are here."""
    for name in names:
        for entry in distribution(name).files or []:
            here = Path(str(entry.locate()))
            if ".." not in entry.parts and here.is_file():
                yield Path(entry), here


@pytest.fixture(scope="module")
def slim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages as `[serve]` installs them, linked from this environment."""
    folder = tmp_path_factory.mktemp("slim")
    for below, here in files(required("serve")):
        (folder / below).parent.mkdir(parents=True, exist_ok=True)
        (folder / below).symlink_to(here)
    return folder


def run(slim: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A command line with these packages and the project's code alone."""
    code = "import sys; from flows.cli.main import main; main()"
    environment = {
        "PATH": os.environ["PATH"],
        "IML_STATE": os.environ["IML_STATE"],
        "PYTHONPATH": f"{slim}{os.pathsep}{ROOT}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "COLUMNS": "200",
    }
    return subprocess.run(
        [sys.executable, "-S", "-c", code, *map(str, arguments)],
        env=environment,
        cwd=slim.parent,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save(small_student().eval(), folder)
    return folder


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(2).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.jpg")
    return tmp_path / "photo.jpg"


def test_serving_is_small_and_has_nothing_of_training() -> None:
    names = required("serve")
    tops = {below.parts[0] for below, _ in files(names)}
    assert tops.isdisjoint({*HEAVY, "torchvision", "onnx", "onnxscript", "segment_anything"})
    size = sum(here.stat().st_blocks * 512 for _, here in files(names)) / 2**20
    assert size < LIMIT, f"{size:.0f} MB"


def test_every_package_is_in_the_base_or_an_extra_that_developers_have() -> None:
    extras = PROJECT["optional-dependencies"]
    inner = re.search(r"\[(.*)\]", extras["dev"][0])
    assert inner
    assert {*inner[1].split(","), "score", "dev"} == set(extras)


def test_predicts_with_the_packages_of_serve_alone(
    slim: Path, model: Path, photo: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = run(slim, "predict", photo, "--model", model, "--out", out, "--report")
    assert done.returncode == 0, done.stderr
    assert "boxpromptiml[report]" in (out / "photo.report.html").read_text()  # for C2PA
    assert (tmp_path / "out/photo.overlay.png").is_file()
    assert run(slim, "--help").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "enough"),
    [
        (("score", "{here}", "--model", "{model}"), "[score] is enough"),
        (("model", "list"), ""),
        (("audit", "boxpromptiml/1"), ""),
        (("teacher", "list"), ""),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_command_without_its_packages_names_the_extra(
    slim: Path, model: Path, photo: Path, arguments: tuple[str, ...], enough: str
) -> None:
    places = {"here": photo.parent, "model": model}
    done = run(slim, *(argument.format(**places) for argument in arguments))
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: this needs the package ")
    assert "pip install 'boxpromptiml[pipeline]'" in line
    assert enough in line


def test_a_champion_that_is_not_here_needs_the_pipeline(slim: Path, photo: Path) -> None:
    done = run(slim, "predict", photo)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        "error: this needs the package mlflow, which is not installed; "
        "pip install 'boxpromptiml[pipeline]'"
    ]


def megabytes(folder: Path, without: tuple[str, ...] = ()) -> float:
    """What a folder takes on the disk, as `du` counts it."""
    paths = [
        path
        for path in folder.rglob("*")
        if not path.relative_to(folder).parts[0].startswith(without or ("/",))
    ]
    return sum(path.lstat().st_blocks * 512 for path in paths) / 2**20


def test_serving_installs_in_a_fresh_environment(
    model: Path,
    photo: Path,
    tmp_path: Path,
    campaigns: bool,
    record_property: Callable[[str, object], None],
) -> None:
    if not campaigns:
        pytest.skip("minutes of pip")
    for name in tracked("pyproject.toml", "README.md", "LICENSE", "*.py", "*.html", "py.typed"):
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / "source" / name)
    python = tmp_path / "env/bin/python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    wanted = [f"{tmp_path / 'source'}[serve]", "--constraint", ROOT / "constraints.txt"]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    subprocess.run([python, "-m", "pip", "check"], check=True)
    (packages,) = (tmp_path / "env/lib").glob("python3*/site-packages")
    size, bare = megabytes(packages), megabytes(packages, ("pip", "setuptools"))
    record_property("MB", round(size))
    record_property("MB without pip", round(bare))
    assert size < LIMIT
    done = subprocess.run(
        [python.with_name("iml"), "predict", photo, "--model", model, "--out", tmp_path / "out"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/photo.mask.png").is_file()
