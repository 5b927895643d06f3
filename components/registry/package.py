"""What one version consists of, and how it is written: one folder, and the run's numbers.

The folder is MLflow's "model from code" - the serving code, safetensors, a JSON; no pickle - with
the lineage record, the documents and reports beside it, so that one signature covers all. No file
shows a photo.
"""

from __future__ import annotations

import base64
import math
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version as installed
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Metric, Param, RunTag
from mlflow.models import Model
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_RUN_NOTE
from PIL import Image

from components.core.code import imported
from components.core.errors import InputError
from components.core.files import sha256_file, sha256_json, write_json, write_text
from components.registry import curve, layout
from components.registry.connection import TRAINING
from components.registry.layout import IDENTITY, RECORD_HASH
from components.registry.runs import Start
from components.serving import pyfunc

FILES = ("student.safetensors", "student.json", "student.onnx")
# What the serving code imports; a test compares.
REQUIRES = (
    "mlflow", "onnxruntime", "numpy", "pandas", "pillow", "pillow-heif", "pydantic", "pyyaml",
    "filelock",
)  # fmt: skip
_INTERVAL = ("low", "high", "n")
_BOUNDS = tuple(f".{name}" for name in _INTERVAL)
_ROOM, _PARAM = 5000, 6000  # characters that MLflow keeps of a description, of a parameter


@dataclass(frozen=True)
class Package:
    """One version's files and facts.

    Attributes:
        start: what its run begins with, where none has begun.
        folder: holds `FILES` (runs/export).
        files: path in the version's folder to a local file or folder, e.g.
            {"evaluation/demo": runs/evaluate/demo}; the training curve at `layout.CURVE`, if any,
            goes among the run's metrics too.
        documents: path in the version's folder to text, e.g. {"card.md": "..."}.
        metrics: nested numbers, e.g. {"demo": metrics.json}; null and non-finite ones are left out.
        params: params.yaml, nested.
        record: the lineage record.
        description: shown on the version's page, Markdown.
        tags: more tags of the version, e.g. its F1 and git commit.
    """

    start: Start
    folder: Path
    files: Mapping[str, Path]
    metrics: Mapping[str, Any]
    params: Mapping[str, Any]
    record: Mapping[str, Any]
    documents: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    def hashes(self) -> dict[str, str]:
        """SHA-256 by name of the files; raises InputError for a missing one."""
        missing = [name for name in FILES if not (self.folder / name).is_file()]
        if missing:
            where = str(self.folder / missing[0])
            raise InputError("no such file", where=where, hint="run `iml run`")
        return {name: sha256_file(self.folder / name) for name in FILES}

    @property
    def identity(self) -> str:
        """The version's name: a hash of its files and of the text of dvc.lock.

        Gate thresholds, commits and packages do not count. Another dvc.lock may still be the same
        version's: where files and evidence are the same (`components.registry.promotion.register`).
        """
        return sha256_json({"files": self.hashes(), "dvc_lock": self.record["dvc_lock"]["sha256"]})

    @property
    def evidence(self) -> dict[str, str | None]:
        """What was measured of the student, see `components.registry.layout.measured`."""
        return layout.measured(self.record)

    @property
    def record_sha256(self) -> str:
        """SHA-256 of the lineage record as canonical JSON."""
        return sha256_json(self.record)

    def version_tags(self) -> dict[str, str]:
        """Tags of the version in MLflow."""
        return {
            **self.tags,
            IDENTITY: self.identity,
            RECORD_HASH: self.record_sha256,
            "weights_sha256": self.hashes()[FILES[0]],
        }

    def parameters(self) -> dict[str, str]:
        """Parameters as MLflow keeps them, by dotted name."""
        return {name: text[:_PARAM] for name, text in leaves(self.params)}

    def page(self, address: str) -> str:
        """What people see on the version's page in MLflow, whose address is given; Markdown.

        Summary, links, as many whole sections of the card as there is room for.
        """
        links = f"[Metrics]({address}{TRAINING}) · [all files]({address}/artifacts{TRAINING})"
        head = f"{self.description}\n\n{links}"
        _, *sections = self.documents.get(layout.CARD, "").split("\n## ")
        # MLflow's style leaves no room between the columns of a table.
        shown = [re.sub(r"(?<!-) \| ", "&emsp; | ", f"\n\n## {part.strip()}") for part in sections]
        while shown and len(head + "".join(shown)) > _ROOM:
            shown.pop()
        return head + "".join(shown)

    def log(self, client: MlflowClient, run_id: str, model_id: str) -> None:
        """Write tags, metrics and parameters into a run; the metrics are the model's too.

        The training curve is the run's alone, one step an epoch: the model is one of its points.
        Points that the training has logged itself stay as they are.
        """
        now = int(time.time() * 1000)
        # MLflow lists them as they come: what people look for before its intervals.
        found = sorted(numbers(self.metrics), key=lambda pair: pair[0].endswith(_BOUNDS))
        metrics = [Metric(name, value, now, 0, model_id=model_id) for name, value in found]
        path = self.files.get(layout.CURVE)
        points = curve.points(path.read_bytes(), str(path)) if path else []
        logged = {
            (name, point.step)
            for name in {point.name for point in points}
            for point in client.get_metric_history(run_id, name)
        }
        metrics += [
            Metric(point.name, point.value, now, point.epoch)
            for point in points
            if (point.name, point.epoch) not in logged
        ]
        for start in range(0, len(metrics), 1000):
            client.log_batch(run_id, metrics=metrics[start : start + 1000])
        params = [Param(name, text) for name, text in self.parameters().items()]
        for start in range(0, len(params), 100):
            client.log_batch(run_id, params=params[start : start + 100])
        tags = {
            IDENTITY: self.identity,
            MLFLOW_RUN_NOTE: self.description,
            # The commit of the results, where the flow has made one since the run began.
            MLFLOW_GIT_COMMIT: self.record["git"]["commit"],
        }
        client.log_batch(run_id, tags=[RunTag(name, text) for name, text in tags.items()])

    def write(self, folder: Path, run_id: str, model: LoggedModel) -> None:
        """Compose the version's folder, which must not exist yet; `model` is MLflow's entry."""
        about = Model(
            artifact_path=model.artifact_location,
            run_id=run_id,
            model_id=model.model_id,
            model_uuid=model.model_id,
        )
        with TemporaryDirectory(prefix="iml-code-") as scratch:
            mlflow.pyfunc.save_model(
                path=str(folder),
                mlflow_model=about,
                python_model=pyfunc.__file__,
                code_paths=[str(_serving_code(Path(scratch)))],
                artifacts={name: str(self.folder / name) for name in FILES},
                signature=pyfunc.signature(),
                input_example=example(),
                pip_requirements=[f"{name}=={installed(name)}" for name in REQUIRES],
            )
        for place, source in self.files.items():
            if source.is_dir():
                shutil.copytree(source, folder / place, ignore=shutil.ignore_patterns(".git*"))
            else:
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, folder / place)
        for place, text in self.documents.items():
            write_text(folder / place, text)
        write_json(folder / layout.RECORD, dict(self.record))
        for compiled in sorted(folder.rglob("__pycache__")):
            shutil.rmtree(compiled)


def _serving_code(folder: Path) -> Path:
    """The package `components` with only the modules that serve a student, copied into a folder."""
    code = imported(pyfunc.__name__)
    root = code["components"].parents[1]
    for source in code.values():
        target = folder / source.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return folder / "components"


def _key(*parts: str) -> str:
    """A name that MLflow accepts."""
    return re.sub(r"[^\w\-. /:]", "_", "/".join(part.strip("/") for part in parts if part))


def numbers(block: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Finite numbers of nested metrics by name: `demo/f1` and, of its interval, `demo/f1.low`."""
    for name, value in block.items():
        if isinstance(value, Mapping):
            yield from numbers(value, _key(prefix, name))
        elif isinstance(value, int | float) and math.isfinite(value):
            if name == "value":
                yield prefix, float(value)
            elif name in _INTERVAL and "value" in block:
                yield f"{prefix}.{name}", float(value)
            else:
                yield _key(prefix, name), float(value)


def leaves(block: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested parameters as dotted names and texts."""
    for name, value in block.items():
        place = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from leaves(value, f"{place}.")
        else:
            yield place, str(value)


def example() -> pd.DataFrame:
    """One request: a small picture as base64 text."""
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    picture = np.stack([*np.meshgrid(ramp, ramp), np.full((64, 64), 128, np.uint8)], axis=2)
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return pd.DataFrame({pyfunc.COLUMN: [base64.b64encode(buffer.getvalue()).decode()]})
