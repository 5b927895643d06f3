"""A small real project - git, DVC with a remote, MLflow, ledger - with two registered versions.

The stages' own mains run in this process, which spares their start; everything else is what a run
does. Built once a session, copied for each test that breaks something.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
import yaml

from components import workspace
from components.core import params as parameters
from components.core.images import save_grey, save_photo
from components.ingest.importing import import_dataset

ROOT = Path(__file__).parents[3]
MODEL = "boxpromptiml"
SMALL = {
    "prepare": {"datasets": ["made"], "near_duplicate_bits": 0},
    "pseudo_label": {"teacher": "grabcut"},
    "distill": {
        "student": {"size": 64, "channels": 8, "prototypes": 4},
        "epochs": 1, "batch": 8, "threads": 1, "augment": False,
    },
    "evaluate": {"datasets": ["made"], "bootstrap": 100, "threads": 1},
    "export": {"sizes": [[64, 64]]},
}  # fmt: skip
GATES = {
    "min_f1": 0.0, "min_image_auc": 0.0, "max_false_alarm_area": 1.0,
    "min_photos": 1, "min_groups": 1,
}  # fmt: skip


def run(root: Path, *command: str) -> str:
    """Run a command that must succeed."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def on_s3(root: Path, address: str) -> Any:
    """Move the remote into the bucket `audit` of a server; gives a client of it."""
    client = boto3.client("s3")
    client.create_bucket(Bucket="audit")
    store = root / ".state/dvc-remote"
    for path in sorted(p for p in store.rglob("*") if p.is_file()):
        client.upload_file(str(path), "audit", f"dvc/{path.relative_to(store)}")
    dvc = (sys.executable, "-m", "dvc", "remote")
    run(root, *dvc, "add", "--local", "--default", "s3", "s3://audit/dvc")
    run(root, *dvc, "modify", "--local", "s3", "endpointurl", address)
    return client


def commit(root: Path, message: str) -> None:
    """Commit everything."""
    run(root, "git", "add", "--all")
    who = ("-c", "user.name=T", "-c", "user.email=t@example.org")
    run(root, "git", *who, "commit", "--quiet", "--allow-empty", "-m", message)


def make_photos(folder: Path, first: int = 0) -> None:
    """Ten pairs of an authentic photo and one with a painted-over corner, with its mask."""
    for number in range(first, first + 10):
        random = np.random.default_rng(number)
        photo = random.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        save_photo(folder / "Au" / f"Au{number}.png", photo)
        mask = np.zeros((48, 64), np.uint8)
        mask[8:28, 10:34] = 255
        photo = random.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        photo[mask > 0] = (200, 40, 40)
        save_photo(folder / "Tp" / f"Tp{number}.png", photo)
        save_grey(folder / "Gt" / f"Tp{number}_gt.png", mask)


def _stages() -> None:
    """Every stage's main, here and now."""
    from components.distill import __main__ as distill
    from components.evaluate import __main__ as evaluate
    from components.export import __main__ as export
    from components.index import __main__ as index
    from components.prepare import __main__ as prepare
    from components.pseudo_label import __main__ as pseudo_label
    from components.validate import __main__ as validate

    for name in parameters.load().prepare.datasets:
        index.main([name])
    for stage in (prepare, validate, pseudo_label, distill):
        stage.main()
    export.main()
    for name in parameters.load().evaluate.datasets:
        evaluate.main([name])


def run_stages() -> None:
    """Every stage, and dvc.lock as if DVC had run them."""
    _stages()
    run(Path.cwd(), sys.executable, "-m", "dvc", "commit", "--force", "--quiet")


def register(root: Path) -> int:
    """What the flow does after the stages."""
    from flows import candidate

    settings = parameters.load()
    workspace.push(settings.datasets)
    version, _ = candidate.register(settings, lambda note: None, "iml run")
    candidate.decide(settings, version)
    return version


def lay_out(root: Path, changes: dict[str, dict]) -> None:
    """The code, params.yaml with changes by block, and a git repository, without data."""
    for name in ("components", ".dvc", ".dvcignore", ".gitignore", "dvc.yaml"):
        source = ROOT / name
        skip = shutil.ignore_patterns("__pycache__", "cache", "tmp", "*.safetensors")
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=skip)
        else:
            shutil.copy(source, root / name)
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    for block, changed in changes.items():
        for key, value in changed.items():
            inner = isinstance(value, dict)
            values[block][key] = {**values[block][key], **value} if inner else value
    values["promotion"]["gates"] |= GATES
    (root / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    run(root, "git", "init", "--quiet", "--initial-branch", "main")


def build(root: Path) -> Path:
    """The project in `root`, with versions 1 (dvc.lock committed, tagged) and 2 (not)."""
    lay_out(root, SMALL)
    make_photos(root / ".state/incoming")
    import_dataset(
        root / ".state/incoming", root / "data/made", name="made", licence="CC0-1.0",
        source_name="made",
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("IML_STATE", str(root / ".state"))
        workspace.dvc_add(Path("data/made"))
        commit(root, "data")
        run_stages()
        commit(root, "dvc.lock of the first run")
        assert register(root) == 1
        run(root, "git", "tag", f"model/{MODEL}/v1")  # as deployments do
        _second(root)
    return root


def _second(root: Path) -> None:
    """Another photo, one photo less, one photo changed, another seed; a rejected version."""
    photos = sorted((root / "data/made/photos").rglob("Au*.png"))
    random = np.random.default_rng(99)
    save_photo(photos[0], random.integers(0, 255, (48, 64, 3), dtype=np.uint8))
    values = yaml.safe_load((root / "params.yaml").read_text())
    values["distill"]["seed"] = 8
    values["promotion"]["gates"]["min_f1"] = 1.0
    (root / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    workspace.dvc_add(Path("data/made"))
    commit(root, "a changed photo and another seed")
    run_stages()
    assert register(root) == 2


def copy(project: Path, target: Path) -> Path:
    """A copy that may be broken: evidence only, no caches; MLflow's paths follow."""
    skip = shutil.ignore_patterns("cache", "runs", "tmp", "incoming")
    shutil.copytree(project, target, ignore=skip, symlinks=True)
    old, new = str(project), str(target)
    with sqlite3.connect(target / ".state/mlflow/mlflow.db") as database:
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("logged_models", "artifact_location"),
            ("model_versions", "storage_location"),
        ):
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (old, new))
    return target


Standing = Callable[[Path], None]
