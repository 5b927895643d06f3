"""The evidence on one version, from wherever it was collected; what could not be had is None."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from components.core.errors import CheckError, InputError
from components.core.files import read_json, sha256_json
from components.registry import layout
from components.registry.chain import Event, Row
from components.registry.layout import RECORD_HASH
from components.workspace import history
from components.workspace.remote import Objects, listed


@dataclass(frozen=True)
class Run:
    """The version and its run as MLflow tells them; texts throughout, but for the metrics."""

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
        signature: the file beside it, which need not be there.
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
    def born(self) -> Row | None:
        """The `registered` row, if it is there and intact."""
        found = [
            row
            for row in self.rows
            if row.version == self.version and row.event == Event.REGISTERED and row.intact()
        ]
        return found[0] if found else None

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The evidence of the `registered` row; empty without one, or where it says nothing."""
        with suppress(ValueError):
            found = self.born.facts() if self.born else {}
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
    def record(self) -> dict[str, Any] | None:
        """The lineage record, if it is the one that was registered."""
        found = self.raw_record
        if not found or not self.facts:
            return None
        try:
            return found if sha256_json(found) == self.facts.get(RECORD_HASH) else None
        except ValueError:  # NaN is no JSON
            return None

    @property
    def dataset(self) -> str:
        """The prepared data set; the record's stages name it."""
        return str(self.stage_params("validate")["prepare.dataset"])

    @property
    def gate_dataset(self) -> str:
        """The data set that the gates read; the prepared one in records that name none."""
        said = self.stage_params(f"evaluate@{self.dataset}").get("evaluate") or {}
        return str(said.get("gate_dataset") or self.dataset)

    def stage(self, name: str) -> dict[str, Any]:
        """A stage of the record; raises KeyError."""
        found = {stage["name"]: stage for stage in (self.record or {}).get("stages", [])}
        return found[name]

    def stage_params(self, name: str) -> dict[str, Any]:
        """A stage's parameters, by dotted key."""
        return dict(self.stage(name)["params"].get("params.yaml", {}))

    def outs(self) -> dict[str, str]:
        """MD5 by path of every output of the record's stages."""
        return self._paths("outs")

    def inputs(self) -> dict[str, str]:
        """MD5 by path of the data that the record's stages read and none of them made."""
        made = self.outs()
        found = self._paths("deps")
        return {p: h for p, h in found.items() if p.startswith("data/") and p not in made}

    def _paths(self, kind: str) -> dict[str, str]:
        stages = (self.record or {}).get("stages", [])
        return {row["path"]: row["md5"] for stage in stages for row in stage[kind] if "md5" in row}

    @cached_property
    def tree(self) -> dict[str, bytes] | None:
        """The recorded commit's files by path; None where git cannot give them."""
        if self.repository is None or not self.record:
            return None
        with suppress(CheckError):
            return history.tree(self.repository, self.record["git"]["commit"])
        return None

    @property
    def clean(self) -> bool:
        """Whether the version was made from its commit alone."""
        return bool((self.record or {}).get("git", {}).get("clean"))

    def read(self, path: str, md5: str) -> bytes:
        """A small object of the remote, checked; raises CheckError or MissingError.

        Args:
            path: what it is in the workspace, for errors.
            md5: its name.
        """
        if md5 not in self._read:
            if self.objects is None:
                raise CheckError("there is no DVC remote to fetch it from", where=path)
            self._read[md5] = self.objects.read(md5)
        return self._read[md5]

    def forget(self, md5: str) -> None:
        """Give back the memory of an object that is not needed again."""
        self._read.pop(md5, None)

    def listing(self, path: str, md5: str) -> dict[str, str]:
        """The files of a folder in the remote: path below it to MD5; raises as `read` does."""
        return listed(self.read(path, md5), path)


def parsed(data: bytes) -> Any:
    """YAML or JSON from outside; None for what is neither."""
    with suppress(yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError):
        return yaml.safe_load(data.decode())
    return None
