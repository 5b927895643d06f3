"""MLflow: runs, versions, the alias. Knows nothing of gates or the ledger.

The address is `$MLFLOW_TRACKING_URI` (a server, SQLite or PostgreSQL); by default SQLite under the
state folder. Where MLflow has no server of its own, artifacts go to `$MLFLOW_DEFAULT_ARTIFACT_ROOT`
or the state folder. A version's last step in MLflow is the version itself, with all its tags, so
one that exists is whole.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import requests
from botocore.exceptions import BotoCoreError, ClientError
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from components.errors import CheckError, InputError
from components.files import state_dir
from components.registry import database

if TYPE_CHECKING:  # it imports torch, which reading the registry does not need
    from components.registry.package import Package

SETTING = "MLFLOW_TRACKING_URI"
ARTIFACT_ROOT = "MLFLOW_DEFAULT_ARTIFACT_ROOT"
ALIAS = "champion"
IDENTITY, RECORD_HASH = "identity", "record_sha256"
RECORD_PATH = "lineage/record.json"
_MODEL_FILES = "artifacts"  # MLflow's folder for a model's own files
_WITNESS = "ledger_head"
_PROBE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
_QUIET = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_ABSENT = "RESOURCE_DOES_NOT_EXIST"


@dataclass(frozen=True)
class Version:
    """A version as MLflow has it."""

    model: str
    version: int
    run_id: str
    tags: Mapping[str, str]


class Store:
    """The MLflow store behind an address; constructing it reaches the store once, quickly.

    Every method raises InputError with one clear line when the store does not answer.
    """

    def __init__(self, uri: str | None = None) -> None:
        folder = state_dir() / "mlflow"
        self._uri = uri or database.environment(SETTING, f"sqlite:///{folder / 'mlflow.db'}")
        self._remote = self._uri.startswith(("http://", "https://"))
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        if not self._remote:
            self._check_database()
        _use(self._uri)
        with _settings(_PROBE), self._answering():
            self._client = MlflowClient(self._uri, self._uri)
            self._client.search_registered_models(max_results=1)

    def _check_database(self) -> None:
        if not self._uri.startswith(("sqlite:", "postgresql")):
            raise InputError(
                "not an MLflow store that works here",
                where=SETTING,
                mend="use http(s)://server, sqlite:////folder/file.db or postgresql://host/name",
            )
        # MLflow itself would try a dead database for minutes.
        database.probe(self._uri, SETTING)

    @property
    def name(self) -> str:
        """The address without secrets."""
        return database.safe_name(self._uri)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Turn MLflow's many ways to fail into one clear line; its chatter goes to stderr."""
        try:
            with redirect_stdout(sys.stderr):
                yield
        except (
            MlflowException,
            SQLAlchemyError,
            requests.RequestException,
            BotoCoreError,
            ClientError,
            ConnectionError,
            PermissionError,
            FileNotFoundError,
        ) as error:
            said = database.scrub(str(getattr(error, "orig", None) or error), self._uri)[:300]
            raise InputError(
                f"the MLflow store does not do this ({said})",
                where=self.name,
                mend=f"check that it runs, and {SETTING}",
            ) from None

    @contextmanager
    def client(self) -> Iterator[MlflowClient]:
        """MLflow's own client, whose failures in the block become one clear line."""
        with self._answering():
            yield self._client

    def _experiment(self, model: str) -> str:
        """The id of the experiment that holds a model's runs; made where there is none."""
        found = self._client.get_experiment_by_name(model)
        if found is None:
            try:
                return self._client.create_experiment(model, self._artifacts(model))
            except MlflowException:
                found = self._client.get_experiment_by_name(model)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise InputError(
                f"experiment {model!r} is deleted", where=self.name, mend="restore it in MLflow"
            )
        return found.experiment_id

    def _artifacts(self, model: str) -> str | None:
        """Where a new experiment's artifacts go; a server decides that itself."""
        if self._remote:
            return None
        root = database.environment(ARTIFACT_ROOT, (state_dir() / "mlflow/artifacts").as_uri())
        return f"{root.rstrip('/')}/{model}"

    def register(self, model: str, package: Package) -> Version:
        """Log one run with everything of a version, then make the version.

        Killed at any point, it leaves at most an unfinished run, which the next call ends, or a
        whole version that `find` finds.
        """
        with self._answering():
            experiment = self._experiment(model)
            self._end_leftovers(experiment, package.identity)
            tags = {IDENTITY: package.identity}
            run = self._client.create_run(experiment, tags=tags, run_name=package.name)
            run_id = run.info.run_id
            package.log(self._client, run_id)
            logged = package.log_model(run_id)
            self._client.set_terminated(run_id)
            self._register_name(model)
            made = self._client.create_model_version(
                model,
                logged.model_uri,
                run_id,
                tags=package.version_tags(),
                model_id=logged.model_id,
            )
            return _version(made)

    def _end_leftovers(self, experiment: str, identity: str) -> None:
        left = f"tags.{IDENTITY} = '{identity}' and attributes.status = 'RUNNING'"
        for run in self._client.search_runs([experiment], left):
            self._client.set_terminated(run.info.run_id, "KILLED")

    def _register_name(self, model: str) -> None:
        try:
            self._client.create_registered_model(model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def versions(self, model: str) -> list[Version]:
        """Every version of a model, oldest first; empty for an unknown model."""
        with self._answering():
            return self._search(f"name = '{model}'")

    def find(self, model: str, identity: str, record_sha256: str) -> list[Version]:
        """Versions with this identity and lineage record, oldest first."""
        wanted = {IDENTITY: identity, RECORD_HASH: record_sha256}
        return [v for v in self.versions(model) if wanted.items() <= v.tags.items()]

    def _search(self, query: str) -> list[Version]:
        found: list[Version] = []
        token: str | None = None
        while True:
            page = self._client.search_model_versions(query, page_token=token)
            found += [_version(entry) for entry in page]
            token = page.token
            if not token:
                return sorted(found, key=lambda version: version.version)

    def metrics(self, run_id: str) -> dict[str, float]:
        """The metrics of a run."""
        with self._answering():
            return dict(self._client.get_run(run_id).data.metrics)

    def alias(self, model: str) -> int | None:
        """The version that the alias `champion` points at, or None."""
        with self._answering():
            try:
                aliases = self._client.get_registered_model(model).aliases
            except MlflowException as error:
                if error.error_code == _ABSENT:
                    return None
                raise
            return int(aliases[ALIAS]) if ALIAS in aliases else None

    def set_alias(self, model: str, version: int | None) -> None:
        """Point the alias at a version, or remove it.

        Raises CheckError when MLflow does not have that version.
        """
        with self._answering():
            if version is None:
                self._client.delete_registered_model_alias(model, ALIAS)
                return
            try:
                self._client.set_registered_model_alias(model, ALIAS, str(version))
            except MlflowException as error:
                if error.error_code != _ABSENT:
                    raise
                raise CheckError(
                    f"version {version} of {model} is missing from MLflow", where=self.name
                ) from None

    def witness(self, model: str) -> str | None:
        """The end of the ledger's chain as it was last shown to MLflow."""
        with self._answering():
            try:
                return self._client.get_registered_model(model).tags.get(_WITNESS)
            except MlflowException as error:
                if error.error_code == _ABSENT:
                    return None
                raise

    def set_witness(self, model: str, text: str) -> None:
        """Remember the end of the ledger's chain."""
        with self._answering():
            self._client.set_registered_model_tag(model, _WITNESS, text)

    def download(self, version: Version, folder: Path) -> tuple[Path, Path]:
        """Fetch a version into a folder: (its student's folder, its lineage record)."""
        with self._answering():
            uri = f"models:/{version.model}/{version.version}/{_MODEL_FILES}"
            files = mlflow.artifacts.download_artifacts(
                uri, dst_path=str(folder), tracking_uri=self._uri, registry_uri=self._uri
            )
            record = self._client.download_artifacts(version.run_id, RECORD_PATH, str(folder))
            return Path(files), Path(record)


def _version(entry: ModelVersion) -> Version:
    return Version(entry.name, int(entry.version), entry.run_id or "", dict(entry.tags))


def _use(uri: str) -> None:
    """Point MLflow's fluent functions at a store, without leaving it in the environment."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    before = os.environ.get(SETTING)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    if before is None:
        os.environ.pop(SETTING, None)


@contextmanager
def _settings(values: Mapping[str, str]) -> Iterator[None]:
    """Environment settings for a block; what is already set stays."""
    added = [name for name in values if name not in os.environ]
    os.environ.update({name: values[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
