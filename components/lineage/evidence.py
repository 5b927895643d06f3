"""The evidence on one version, from wherever it was collected; what could not be had is None."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from components.core.errors import CheckError, EvidenceError, InputError
from components.core.files import read_json, sha256_json
from components.registry import layout
from components.registry.chain import Event, Row
from components.workspace import history
from components.workspace.remote import MissingError, Objects, listed

# What the stages of recorded versions wrote, by record schema 1 and 2. These are not the paths of
# `core.paths`, which may change: a version's outputs keep the names that its record gives them.
MANIFEST, BOXES = "runs/prepare/manifest.parquet", "runs/prepare/boxes.parquet"
VALIDATION = "runs/validate/result.json"
LABELS, TEACHER = "runs/pseudo_label/labels.parquet", "runs/pseudo_label/summary.json"
CURVE, STUDENT = "runs/distill/history.csv", "runs/distill/summary.json"
EVALUATED = "runs/evaluate"  # a folder per data set, with these files
METRICS, IMAGES = "metrics.json", "images.parquet"
PARITY = "runs/export/parity.json"


@dataclass(frozen=True)
class Run:
    """The version and its run as recorded in MLflow; all values but the metrics are texts."""

    run_id: str
    status: str
    version_tags: Mapping[str, str]
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Evidence:
    """Everything an audit looks at.

    Attributes:
        model, version: what is audited.
        source: where the evidence came from, for people.
        rows: the model's ledger.
        ledger_head: the end of the ledger as MLflow remembers it.
        alias: the version MLflow's alias points at.
        run: None where MLflow has no such version or run.
        files: the version's folder in MLflow; an empty one where there is none.
        signature: the file beside it, which need not exist.
        repository: a git repository, or None.
        objects: the DVC remote, or None.
    """

    model: str
    version: int
    source: str
    rows: Sequence[Row]
    ledger_head: str | None
    alias: int | None
    run: Run | None
    files: Path
    signature: Path
    repository: Path | None
    objects: Objects | None
    _read: dict[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """`model/version`."""
        return f"{self.model}/{self.version}"

    @cached_property
    def own_rows(self) -> list[Row]:
        """The version's intact rows of the ledger."""
        return [row for row in self.rows if row.version == self.version and row.intact()]

    @cached_property
    def registration(self) -> Row | None:
        """The `registered` row, if it is there and intact."""
        return next((row for row in self.own_rows if row.event == Event.REGISTERED), None)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The evidence of the `registered` row; empty where there is no row or nothing in it."""
        with suppress(ValueError):
            found = self.registration.facts() if self.registration else {}
            return found if isinstance(found, dict) else {}
        return {}

    @cached_property
    def raw_record(self) -> dict[str, Any] | None:
        """The lineage record as found, whether it is the registered one or not."""
        with suppress(InputError):
            found = read_json(self.files / layout.RECORD)
            return found if isinstance(found, dict) else {}
        return {} if (self.files / layout.RECORD).exists() else None

    @cached_property
    def _registered_record(self) -> dict[str, Any] | None:
        with suppress(ValueError):  # NaN is not JSON
            registered = self.facts.get(layout.RECORD_HASH)
            return self.raw_record if sha256_json(self.raw_record) == registered else None
        return None

    @property
    def has_record(self) -> bool:
        """Whether the lineage record is there, and is the one that was registered."""
        return bool(self._registered_record)

    @property
    def record(self) -> dict[str, Any]:
        """The registered lineage record; raises EvidenceError where it is missing or changed."""
        if not self._registered_record:
            what = "its lineage record is missing or broken"
            raise EvidenceError(what, where=self.name, hint="see `iml audit`")
        return self._registered_record

    @property
    def dataset(self) -> str:
        """The prepared data set; the record's stages name it."""
        return str(self.stage_params("validate")["prepare.dataset"])

    @property
    def gate_dataset(self) -> str:
        """The data set that the gates read; the prepared one in records that name none."""
        block = self.stage_params(f"evaluate@{self.dataset}").get("evaluate") or {}
        return str(block.get("gate_dataset") or self.dataset)

    def stage(self, name: str) -> dict[str, Any]:
        """A stage of the record; raises KeyError."""
        return {stage["name"]: stage for stage in self.record.get("stages", [])}[name]

    def stage_params(self, name: str) -> dict[str, Any]:
        """A stage's parameters, by dotted key."""
        return dict(self.stage(name)["params"].get("params.yaml", {}))

    def outs(self) -> dict[str, str]:
        """MD5 by path of every output of the record's stages."""
        return self._paths("outs")

    def inputs(self) -> dict[str, str]:
        """MD5 by path of the data that the record's stages read and none of them wrote."""
        made = self.outs()
        found = self._paths("deps")
        return {p: h for p, h in found.items() if p.startswith("data/") and p not in made}

    def _paths(self, kind: str) -> dict[str, str]:
        rows = [row for stage in self.record.get("stages", []) for row in stage[kind]]
        return {row["path"]: row["md5"] for row in rows if "md5" in row}

    @cached_property
    def tree(self) -> dict[str, bytes] | None:
        """The recorded commit's files by path; None where git cannot read them."""
        if self.repository is None:
            return None
        with suppress(CheckError):
            return history.tree(self.repository, self.record["git"]["commit"])
        return None

    @property
    def clean(self) -> bool:
        """Whether the version was made from its commit alone."""
        return self.has_record and bool(self.record.get("git", {}).get("clean"))

    @property
    def remote(self) -> Objects:
        """The DVC remote; raises MissingError where there is none."""
        if self.objects is None:
            raise MissingError("there is no DVC remote to fetch it from", where=self.name)
        return self.objects

    def read(self, path: str, md5: str) -> bytes:
        """A small object of the remote by its MD5, checked; `path` is its name in errors.

        Raises EvidenceError where it has changed, MissingError where it or the remote is missing.
        """
        if md5 not in self._read:
            try:
                self._read[md5] = self.remote.read(md5)
            except EvidenceError as error:
                raise type(error)(error.what, where=path) from None
        return self._read[md5]

    def output(self, path: str) -> bytes:
        """An output of the record's stages; raises as `read` does."""
        return self.read(path, self.outs()[path])

    def table(self, path: str, columns: Sequence[str] = ()) -> pd.DataFrame:
        """A Parquet output with at least these columns; raises as `read` does."""
        try:
            found = pq.read_table(io.BytesIO(self.output(path)))
        except pa.ArrowInvalid as error:
            raise EvidenceError(f"not a Parquet file ({error})", where=path) from None
        if not set(columns) <= set(found.schema.names):
            raise EvidenceError(f"has columns {found.schema.names}", where=path)
        return found.to_pandas()

    def listing(self, path: str, md5: str) -> dict[str, str]:
        """The files of a folder in the remote: path below it to MD5; raises as `read` does."""
        return listed(self.read(path, md5), path)

    def input_files(self, path: str) -> dict[str, str]:
        """The files of a data set that the stages read, as `listing`."""
        return self.listing(path, self.inputs()[path])


def parsed(data: bytes) -> Any:
    """YAML or JSON from outside; None for what is neither."""
    with suppress(yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError):
        return yaml.safe_load(data.decode())
    return None
