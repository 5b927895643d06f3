"""The lineage record: what made a version, as one JSON document that depends on nothing else.

It holds no time, no run id and no path of this machine, so an unchanged workspace gives the same
record. `components.core.files.sha256_json` of it is its name in the ledger, whose row ties it to
the run. Photos and boxes are listed by `runs/prepare/manifest.parquet` and `boxes.parquet`, outputs
of `prepare` whose hashes are recorded here and whose bytes lie in the DVC remote.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch
import yaml

from components import workspace
from components.core.errors import InputError
from components.core.files import read_json, sha256_bytes, sha256_file, sha256_json
from components.core.paths import (
    DATA,
    DISTILL_SUMMARY,
    EVALUATED,
    EXPORTED,
    METRICS,
    PSEUDO_LABEL_SUMMARY,
    VALIDATION,
)

SCHEMA = 2
HASHES = ("md5", "etag", "checksum")


def collect(params: Mapping[str, Any]) -> dict[str, Any]:
    """The record of the workspace that we stand in, after its stages have run.

    Args:
        params: params.yaml as plain values.

    Returns:
        Finite JSON: schema, git, dvc_lock, stages, datasets, teacher, backbone, validation,
        evaluation, files, environment, seeds_and_threads.

    Raises:
        InputError: a stage has not run, or a data set says nothing about its licence.
        CheckError: git has no commit here.
    """
    lock = workspace.lock_text()
    dirty = workspace.git_dirty()
    names = sorted({params["prepare"]["dataset"], *params["evaluate"]["datasets"]})
    return {
        "schema": SCHEMA,
        "git": {"commit": workspace.git_commit(), "clean": not dirty, "dirty": dirty},
        "dvc_lock": {
            "sha256": sha256_bytes(lock.encode()),
            "text": lock,
            "committed": workspace.lock_committed(),
        },
        "stages": _stages(),
        "datasets": {name: _dataset(name) for name in names},
        "teacher": teacher(),
        "backbone": backbone(),
        "validation": _result(VALIDATION),
        "evaluation": {name: _result(EVALUATED / name / METRICS) for name in names},
        "files": _files(EXPORTED),
        "environment": environment(),
        "seeds_and_threads": _drawn(params),
    }


def _stages() -> list[dict[str, Any]]:
    """Every stage with its command and the hashes of what it read and wrote, and its parameters."""
    locked = workspace.read_lock().get("stages", {})
    found = []
    for name in workspace.stages():
        if name not in locked:
            raise InputError(f"stage {name} has not run", where="dvc.lock", hint="run `iml run`")
        found.append(stage(name, locked[name]))
    return found


def stage(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """A stage of the record from its entry in dvc.lock; raises InputError for an unhashed path."""
    params = entry.get("params", {})
    return {
        "name": name,
        "command": entry["cmd"],
        "deps": [_entry(row) for row in entry.get("deps", [])],
        "outs": [_entry(row) for row in entry.get("outs", [])],
        "params": params,
        "params_sha256": sha256_json(params),
    }


def _entry(row: Mapping[str, Any]) -> dict[str, Any]:
    """A path with its content hash, as DVC names it; a folder's also tells its files."""
    kind = next((name for name in HASHES if name in row), None)
    if kind is None:
        raise InputError(f"{row['path']} has no hash", where="dvc.lock", hint="run `iml run`")
    return {
        "path": row["path"],
        kind: row[kind],
        **{name: row[name] for name in ("size", "nfiles") if name in row},
    }


def _dataset(name: str) -> dict[str, Any]:
    """A data set's name, licence and source, and the hashes of what describes it."""
    path = DATA / name / "dataset.yaml"
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no such file", where=str(path), hint="run `iml dataset import`") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"not valid YAML ({error})", where=str(path)) from None
    if not isinstance(said, dict) or not str(said.get("licence") or "").strip():
        raise InputError("names no licence", where=str(path), hint="add a line `licence: ...`")
    tracked = DATA / f"{name}.dvc"
    return {
        "name": name,
        "licence": str(said["licence"]),
        "source": str(said.get("source", "")),
        "dataset_yaml_sha256": sha256_file(path),
        "boxes_sha256": _hash(DATA / name / "boxes.json"),
        "dvc": yaml.safe_load(tracked.read_text(encoding="utf-8")) if tracked.is_file() else None,
    }


def teacher() -> dict[str, Any]:
    """The teacher's name and the hash of its weights, as the stage recorded them."""
    path = PSEUDO_LABEL_SUMMARY
    said = read_json(path)
    if not isinstance(said, dict) or "teacher_sha256" not in said:
        raise InputError("names no teacher_sha256", where=str(path), hint="run `iml run`")
    return {"name": said.get("teacher"), "sha256": said["teacher_sha256"]}


def backbone() -> dict[str, Any]:
    """The backbone's name, where its first weights came from and their hash (null for none)."""
    path = DISTILL_SUMMARY
    said = read_json(path)
    if not isinstance(said, dict) or not isinstance(said.get("backbone"), dict):
        raise InputError("names no backbone", where=str(path), hint="run `iml run`")
    return dict(said["backbone"])


def _result(path: Path) -> dict[str, Any]:
    """A stage's result with the hash of its file."""
    return {"sha256": _hash(path), "result": read_json(path)}


def _hash(path: Path) -> str:
    if not path.is_file():
        raise InputError("no such file", where=str(path), hint="run `iml run`")
    return sha256_file(path)


def _files(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a folder, by name."""
    return {path.name: sha256_file(path) for path in sorted(folder.glob("*")) if path.is_file()}


def _drawn(params: Mapping[str, Any]) -> dict[str, int]:
    """Seeds and thread counts by their place in params.yaml."""
    return {
        f"{block}.{name}": values[name]
        for block, values in sorted(params.items())
        for name in ("seed", "threads")
        if isinstance(values, Mapping) and name in values
    }


def environment() -> dict[str, Any]:
    """Packages, Python, system and processors: what decides float sums besides the code."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "gpus": gpus,
        "cuda": torch.version.cuda if gpus else None,
        "packages": packages(),
    }


def packages() -> dict[str, str]:
    """Every installed distribution by normalised name (PEP 503), with its version."""
    found = {
        re.sub(r"[-_.]+", "-", entry.metadata["Name"]).lower(): entry.version
        for entry in distributions()
        if entry.metadata["Name"]
    }
    return dict(sorted(found.items()))


def _cpu() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
