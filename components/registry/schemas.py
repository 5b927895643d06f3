"""How lineage records name things: stages, parameters, files, and the columns of their tables.

    names = schemas.of(record)
    names.path("manifest")    # runs/prepare/manifest.parquet, or wherever it was at the time

A record of schema 3 or later carries its names (`layout`); those of schemas 1 and 2 are written
out here. This is history: a later change of names goes into `LAYOUT` of `components.lineage.record`
and never here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Of schemas 1 and 2. `{dataset}` stands for the name of a data set.
_BEFORE: dict[str, dict[str, Any]] = {
    "stages": {"validation": "validate", "evaluation": "evaluate@{dataset}"},
    "parameters": {
        "dataset": "prepare.dataset",
        "gate_dataset": "evaluate.gate_dataset",
        "teacher": "pseudo_label.teacher",
        "checkpoint": "pseudo_label.checkpoint",
        "training": "distill",
        "backbone": "distill.student.backbone",
        "weights": "distill.student.weights",
    },
    "paths": {
        "manifest": "runs/prepare/manifest.parquet",
        "boxes": "runs/prepare/boxes.parquet",
        "validation": "runs/validate/result.json",
        "labels": "runs/pseudo_label/labels.parquet",
        "teacher": "runs/pseudo_label/summary.json",
        "curve": "runs/distill/history.csv",
        "student": "runs/distill/summary.json",
        "metrics": "runs/evaluate/{dataset}/metrics.json",
        "images": "runs/evaluate/{dataset}/images.parquet",
        "parity": "runs/export/parity.json",
        "sheet": "runs/pseudo_label/contact_sheet.png",
        "gallery": "runs/evaluate/{dataset}/report.html",
        "dataset": "data/{dataset}",
        "server": "components/serving/pyfunc.py",
    },
    "files": {  # of the version's folder
        "manifest": "lineage/manifest.parquet",
        "curve": "training/history.csv",
        "validation": "validation",
        "evaluation": "evaluation/{dataset}",
        # Show photos; up to schema 4 in the version's folder too.
        "sheet": "pictures/contact_sheet.png",
        "gallery": "evaluation/{dataset}/report.html",
    },
    "columns": {
        "manifest": {
            name: name
            for name in (
                *("image_id", "path", "sha256", "label", "mask_path", "mask_sha256"),
                *("split", "group", "source", "n_boxes"),
            )
        },
        "boxes": {name: name for name in ("image_id", "x0", "y0", "x1", "y1")},
        "labels": {"teacher_sha256": "teacher_sha256"},
        "images": {name: name for name in ("image_id", "f1", "false_alarm_area")},
    },
}
# Their block `distill` had the student's keys in itself at first, later in a block of its own.
_STUDENT = (
    *("backbone", "weights", "size", "channels", "prototypes", "alpha", "gates", "dual_guidance"),
    *("frontend", "view", "overlap"),
)


@dataclass(frozen=True)
class Names:
    """What a record calls things; see `of`."""

    record: Mapping[str, Any]
    layout: Mapping[str, Mapping[str, Any]]

    def stage(self, role: str, dataset: str = "") -> str:
        """The name of a stage."""
        return str(self.layout["stages"][role]).replace("{dataset}", dataset)

    def path(self, role: str, dataset: str = "") -> str:
        """The path of an output, a data set or the code that serves, below the workspace."""
        return str(self.layout["paths"][role]).replace("{dataset}", dataset)

    def file(self, role: str, dataset: str = "") -> str:
        """The place of a file or folder in the version's folder."""
        return str(self.layout["files"][role]).replace("{dataset}", dataset)

    def columns(self, table: str, roles: Sequence[str]) -> dict[str, str]:
        """The columns of a table by what they are for; those unknown to the record are left out."""
        known = self.layout["columns"][table]
        return {role: str(known[role]) for role in roles if role in known}

    def parameters(self) -> dict[str, Any]:
        """Parameters of all stages by dotted name."""
        found: dict[str, Any] = {}
        for stage in self.record.get("stages", []):
            found |= dict(_flat(stage["params"].get("params.yaml", {})))
        if "layout" not in self.record:
            for key in _STUDENT:
                if f"distill.{key}" in found:
                    found[f"distill.student.{key}"] = found.pop(f"distill.{key}")
        return found

    def parameter(self, role: str) -> Any:
        """A parameter; None where the record has none."""
        return self.parameters().get(str(self.layout["parameters"][role]))

    def datasets(self) -> list[str]:
        """The data sets that the version was prepared from, the first one first; [] for none.

        Up to schema 3 a version had one, by the role `dataset`.
        """
        if "datasets" not in self.layout["parameters"]:
            one = self.parameter("dataset")
            return [] if one is None else [str(one)]
        return [str(name) for name in self.parameter("datasets") or ()]

    def parameters_of(self, role: str) -> dict[str, Any]:
        """A block of parameters, by the dotted names within it."""
        start = f"{self.layout['parameters'][role]}."
        return {
            name.removeprefix(start): value
            for name, value in self.parameters().items()
            if name.startswith(start)
        }


def of(record: Mapping[str, Any]) -> Names:
    """The names in a record; what one that carries them leaves out is called as before."""
    carried = record.get("layout") or {}
    layout = {part: {**names, **carried.get(part, {})} for part, names in _BEFORE.items()}
    return Names(record, layout)


def _flat(block: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in block.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
