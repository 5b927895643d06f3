"""The evidence on one version, from wherever it was collected; what could not be had is None."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
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
from components.registry import layout, schemas
from components.registry.chain import Event, Row
from components.registry.tombstones import Tombstones
from components.workspace import history, imports
from components.workspace.imports import Import
from components.workspace.remote import MissingError, Objects, listed


class UnknownError(EvidenceError):
    """Evidence in a form that this program does not know."""


class ErasedError(MissingError):
    """An object that is absent because it was erased, as a tombstone says."""


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
        checkpoints: the ledger's, by place; None where none are kept.
        witnesses: checkpoints that somebody else has of it, by file.
        tombstones: of erased photos.
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
    checkpoints: Mapping[str, str] | None = None
    witnesses: Mapping[str, str] = field(default_factory=dict)
    tombstones: Tombstones = field(default_factory=Tombstones)
    _read: dict[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def provenance(self) -> Path:
        """The attestation of what made it, beside the signature; it need not exist."""
        return self.signature.with_name(layout.PROVENANCE)

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

    @property
    def no_run(self) -> str:
        """What is missing where `run` is None."""
        run = self.facts.get("run_id", "")
        return f"MLflow has no version {self.version}, or no run {run}".strip()

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

    @cached_property
    def names(self) -> schemas.Names:
        """What the record calls stages, parameters, files and columns."""
        return schemas.of(self.record)

    @property
    def datasets(self) -> list[str]:
        """The prepared data sets; the record's stages name them."""
        names = self.names.datasets()
        if not names:
            raise UnknownError("names no prepared data set that this program knows", where="record")
        return names

    @property
    def gate_dataset(self) -> str:
        """The data set that the gates read; the first prepared one in records that name none."""
        return str(self.names.parameter("gate_dataset") or self.datasets[0])

    def stage(self, name: str) -> dict[str, Any]:
        """A stage of the record; raises KeyError."""
        return {stage["name"]: stage for stage in self.record.get("stages", [])}[name]

    def outs(self) -> dict[str, str]:
        """MD5 by path of every output of the record's stages."""
        return self._paths("outs")

    def inputs(self) -> dict[str, str]:
        """MD5 by path of the data that the record's stages read and none of them wrote."""
        made = self.outs()
        found = self._paths("deps")
        root = self.names.path("dataset")
        return {p: h for p, h in found.items() if p.startswith(root) and p not in made}

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

    def imports(self) -> list[Import]:
        """The version's data sets that stay in S3; none where there is no record."""
        found = self.record.get("datasets") if self.has_record else None
        rows = found.values() if isinstance(found, dict) else ()
        every = (imports.of(row.get("dvc")) for row in rows if isinstance(row, dict))
        return [one for one in every if one]

    @property
    def remote(self) -> Objects:
        """The DVC remote; raises MissingError where there is none."""
        if self.objects is None:
            raise MissingError("there is no DVC remote to fetch it from", where=self.name)
        return self.objects

    def read(self, path: str, md5: str) -> bytes:
        """A small object of the remote by its MD5, checked; `path` is its name in errors.

        Raises EvidenceError where it has changed, MissingError where it or the remote is missing,
        ErasedError where it was erased.
        """
        if md5 not in self._read:
            try:
                self._read[md5] = self.remote.read(md5)
            except MissingError as error:
                stone = self.tombstones.objects.get(md5)
                if stone and self.objects is not None:
                    raise ErasedError(
                        f"erased, by tombstone ({stone.line()})", where=path
                    ) from None
                raise type(error)(error.what, where=path) from None
            except EvidenceError as error:
                raise type(error)(error.what, where=path) from None
        return self._read[md5]

    def output(self, name: str, dataset: str = "") -> bytes:
        """An output of the record's stages by its role (see `schemas`); raises as `read` does.

        Raises UnknownError where the stages have no such output.
        """
        path, outs = self.names.path(name, dataset), self.outs()
        if path not in outs:
            raise UnknownError("is no output of the recorded stages", where=path)
        return self.read(path, outs[path])

    def table(
        self,
        name: str,
        columns: Sequence[str],
        *,
        optional: Sequence[str] = (),
        dataset: str = "",
    ) -> pd.DataFrame:
        """Columns of a Parquet output, by its and their roles; raises as `output` does.

        Raises UnknownError where it is no Parquet file or lacks a column that is not `optional`.
        """
        path, data = self.names.path(name, dataset), self.output(name, dataset)
        try:
            file = pq.ParquetFile(io.BytesIO(data))
        except pa.ArrowInvalid as error:
            raise UnknownError(f"not a Parquet file ({error})", where=path) from None
        wanted = self.names.columns(name, [*columns, *optional])
        names = file.schema_arrow.names
        there = {role: column for role, column in wanted.items() if column in names}
        if lacking := [wanted.get(role, role) for role in columns if role not in there]:
            raise UnknownError(f"this program needs column {lacking[0]!r}", where=path)
        frame = file.read(list(there.values())).to_pandas()
        return frame.rename(columns={column: role for role, column in there.items()})

    def photos(self, columns: Sequence[str], *, optional: Sequence[str] = ()) -> pd.DataFrame:
        """Columns of the manifest, with `dataset`; raises as `table` does.

        Paths of photos and masks are below the folder of all data sets. Before schema 4 a manifest
        had one data set, and paths below its folder.
        """
        frame = self.table("manifest", columns, optional=[*optional, "dataset"])
        if "dataset" not in frame:
            frame["dataset"] = only = self.datasets[0]
            for name in frame.columns.intersection(["path", "mask_path"]):
                frame[name] = f"{only}/" + frame[name]  # null stays null
        return frame

    def data_files(self) -> dict[str, str]:
        """The files of the prepared data sets: path below the folder of all to MD5.

        Raises as `read` does.
        """
        return {
            f"{name}/{path}": md5
            for name in self.datasets
            for path, md5 in self.input_files(self.names.path("dataset", name)).items()
        }

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


def below(folder: str, paths: Iterable[str]) -> list[str]:
    """Those of some paths that are in a folder."""
    return [path for path in paths if path.startswith(f"{folder}/")]
