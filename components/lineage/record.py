"""The lineage record: what made a version, as one JSON document that depends on nothing else.

It holds no time, no run id and no path of this machine, so an unchanged workspace gives the same
record. `components.core.files.sha256_json` of it is its name in the ledger, whose row ties it to
the run. Photos and boxes are listed by `runs/prepare/manifest.parquet` and `boxes.parquet`, outputs
of `prepare` whose hashes are recorded here and whose bytes are in the DVC remote.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch
import yaml

from components import workspace
from components.core.errors import InputError
from components.core.files import read_json, sha256_bytes, sha256_file, sha256_json
from components.core.paths import (
    BOXES,
    CONTACT_SHEET,
    CURVE,
    DATA,
    DISTILL_SUMMARY,
    EVALUATED,
    EVALUATION_PHOTOS,
    EXPORTED,
    IMAGES,
    LABELS,
    MANIFEST,
    METRICS,
    PARITY,
    PSEUDO_LABEL_SUMMARY,
    VALIDATION,
)
from components.registry import layout
from components.workspace import imports

# 4: several data sets, `parameters.datasets` and two columns of the manifest; 5: outputs that show
# photos (`sheet`, `gallery`) are in no version's folder
SCHEMA = 5
# What this program calls things, by role: a record carries it, and whoever reads the record asks it
# (`components.registry.schemas`). A name that changes in code or dvc.yaml changes here (tested).
LAYOUT: dict[str, dict[str, Any]] = {
    "stages": {"validation": "validate", "evaluation": "evaluate@{dataset}"},
    "parameters": {
        "datasets": "prepare.datasets",
        "gate_dataset": "evaluate.gate_dataset",
        "teacher": "pseudo_label.teacher",
        "checkpoint": "pseudo_label.checkpoint",
        "training": "distill",
        "backbone": "distill.student.backbone",
        "weights": "distill.student.weights",
    },
    "paths": {
        "manifest": str(MANIFEST),
        "boxes": str(BOXES),
        "validation": str(VALIDATION),
        "labels": str(LABELS),
        "teacher": str(PSEUDO_LABEL_SUMMARY),
        "curve": str(CURVE),
        "student": str(DISTILL_SUMMARY),
        "metrics": str(EVALUATED / "{dataset}" / METRICS),
        "images": str(EVALUATED / "{dataset}" / IMAGES),
        "parity": str(PARITY),
        "sheet": str(CONTACT_SHEET),
        "gallery": str(EVALUATED / "{dataset}" / EVALUATION_PHOTOS),
        "dataset": str(DATA / "{dataset}"),
        "server": "components/serving/pyfunc.py",
    },
    "files": {
        "manifest": layout.MANIFEST,
        "curve": layout.CURVE,
        "validation": "validation",
        "evaluation": "evaluation/{dataset}",
        "sheet": "",
        "gallery": "",
    },
    "columns": {
        "manifest": {
            name: name
            for name in (
                *("image_id", "dataset", "pool", "path", "sha256", "label", "mask_path"),
                *("mask_sha256", "split", "group", "source", "n_boxes"),
            )
        },
        "boxes": {name: name for name in ("image_id", "x0", "y0", "x1", "y1")},
        "labels": {"teacher_sha256": "teacher_sha256"},
        "images": {name: name for name in ("image_id", "f1", "false_alarm_area")},
    },
}
HASHES = ("md5", "etag", "checksum")
_RUN = "run `iml run`"  # the hint


def collect(params: Mapping[str, Any]) -> dict[str, Any]:
    """The record of this workspace, after its stages have run.

    Args:
        params: params.yaml as plain values.

    Returns:
        Finite JSON: schema, layout, git, dvc_lock, stages, datasets, teacher, backbone, validation,
        evaluation, files, environment, seeds_and_threads.

    Raises:
        InputError: a stage has not run, a data set names no licence, or git has no commit here.
    """
    lock, dirty = workspace.lock_text(), workspace.git_dirty()
    scored = sorted(params["evaluate"]["datasets"])
    names = sorted({*params["prepare"]["datasets"], *scored})
    return {
        "schema": SCHEMA,
        "layout": LAYOUT,
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
        "evaluation": {name: _result(EVALUATED / name / METRICS) for name in scored},
        "files": {p.name: sha256_file(p) for p in sorted(EXPORTED.glob("*")) if p.is_file()},
        "environment": environment(),
        "seeds_and_threads": _seeds_and_threads(params),
    }


def is_known(record: Mapping[str, Any]) -> bool:
    """Whether this program knows the schema of a record."""
    schema = record.get("schema")
    return isinstance(schema, int) and schema <= SCHEMA


def _stages() -> list[dict[str, Any]]:
    """Every stage with its command and the hashes of what it read and wrote, and its parameters."""
    locked = workspace.read_lock().get("stages", {})
    names = workspace.stages()
    for name in names:
        if name not in locked:
            raise InputError(f"stage {name} has not run", where="dvc.lock", hint=_RUN)
    return [stage(name, locked[name]) for name in names]


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
    """A path with its content hash, as DVC names it, and how large it is."""
    kind = next((name for name in HASHES if name in row), None)
    if kind is None:
        raise InputError(f"{row['path']} has no hash", where="dvc.lock", hint=_RUN)
    return {name: row[name] for name in ("path", kind, "size", "nfiles") if name in row}


def _dataset(name: str) -> dict[str, Any]:
    """A data set's name, licence and source, and the hashes of what describes it."""
    path = DATA / name / "dataset.yaml"
    try:
        block = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no such file", where=str(path), hint="run `iml dataset import`") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"not valid YAML ({error})", where=str(path)) from None
    if not isinstance(block, dict) or not str(block.get("licence") or "").strip():
        raise InputError("names no licence", where=str(path), hint="add a line `licence: ...`")
    return {
        "name": name,
        "licence": str(block["licence"]),
        "source": str(block.get("source", "")),
        "dataset_yaml_sha256": sha256_file(path),
        "boxes_sha256": _hash(DATA / name / "boxes.json"),
        "dvc": imports.read(DATA / f"{name}.dvc"),
    }


def teacher() -> dict[str, Any]:
    """The teacher's name, and hash and licence of its weights, as the stage recorded them."""
    summary = read_json(PSEUDO_LABEL_SUMMARY)
    if not isinstance(summary, dict) or "teacher_sha256" not in summary:
        what = "names no teacher_sha256"
        raise InputError(what, where=str(PSEUDO_LABEL_SUMMARY), hint=_RUN)
    found = {"name": summary.get("teacher"), "sha256": summary["teacher_sha256"]}
    licence = summary.get("teacher_licence")  # an earlier stage recorded none
    return found if licence is None else {**found, "licence": licence}


def backbone() -> dict[str, Any]:
    """The backbone's name, where its first weights came from and their hash (null for none)."""
    summary = read_json(DISTILL_SUMMARY)
    if not isinstance(summary, dict) or not isinstance(summary.get("backbone"), dict):
        raise InputError("names no backbone", where=str(DISTILL_SUMMARY), hint=_RUN)
    return dict(summary["backbone"])


def _result(path: Path) -> dict[str, Any]:
    """A stage's result with the hash of its file."""
    return {"sha256": _hash(path), "result": read_json(path)}


def _hash(path: Path) -> str:
    if not path.is_file():
        raise InputError("no such file", where=str(path), hint=_RUN)
    return sha256_file(path)


def _seeds_and_threads(params: Mapping[str, Any]) -> dict[str, int]:
    """By their place in params.yaml."""
    return {
        f"{block}.{name}": values[name]
        for block, values in sorted(params.items())
        for name in ("seed", "threads")
        if isinstance(values, Mapping) and name in values
    }


def environment() -> dict[str, Any]:
    """Packages, Python, system and processors: what decides float sums besides the code.

    Packages are every installed distribution by normalised name (PEP 503).
    """
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    packages = {
        re.sub(r"[-_.]+", "-", entry.metadata["Name"]).lower(): entry.version
        for entry in distributions()
        if entry.metadata["Name"]
    }
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "gpus": gpus,
        "cuda": torch.version.cuda if gpus else None,
        "packages": dict(sorted(packages.items())),
    }


def _cpu() -> str:
    """The processor's name."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
