"""MLflow's store: runs, versions, the alias. Knows nothing of gates or the ledger.

A store without a server has its artifacts in `$MLFLOW_DEFAULT_ARTIFACT_ROOT` or the state folder.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS, MLFLOW_RUN_NOTE

from components.core.errors import CheckError, InputError
from components.core.files import sha256_file, write_json
from components.core.paths import MLFLOW_ARTIFACTS, TOMBSTONES, state_dir
from components.registry import attestations, connection, database, layout, signing
from components.registry.layout import (
    ALIAS,
    IDENTITY,
    LEDGER_HEAD,
    PROVENANCE_HASH,
    RECORD_HASH,
    SIGNATURE_HASH,
    SIGNER,
)
from components.registry.runs import MACHINE, Live, Start

if TYPE_CHECKING:  # it imports torch, which reading the registry does not need
    from components.registry.package import Package

T = TypeVar("T")
ARTIFACT_ROOT = "MLFLOW_DEFAULT_ARTIFACT_ROOT"
_META = "registered_model_meta"  # MLflow's own note in every downloaded version
_ABOUT = (
    "The alias `champion` follows the promotion ledger. Move it with `iml model approve` or "
    "`iml model rollback`: an alias moved by hand is reported and set back."
)
# Model training, not traces of agents.
_KIND = {"mlflow.experimentKind": "custom_model_development"}
_WORKSPACE = "workspace"  # tag of a run: the host and state folder that it runs in
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

    Every method raises UnavailableError with one clear line when the store does not answer.
    """

    def __init__(self, uri: str | None = None) -> None:
        self._uri = uri or connection.address()
        self._client = connection.connect(self._uri)

    @property
    def name(self) -> str:
        """The address without secrets."""
        return database.safe_name(self._uri)

    @contextmanager
    def client(self) -> Iterator[MlflowClient]:
        """MLflow's own client; its failures in the block become one clear line."""
        with connection.answering(self._uri):
            yield self._client

    def _experiment(self, model: str) -> str:
        """The id of the experiment that holds a model's runs; made where there is none."""
        found = self._client.get_experiment_by_name(model)
        if found is None:
            try:
                return self._client.create_experiment(model, self._artifacts(model), _KIND)
            except MlflowException:
                found = self._client.get_experiment_by_name(model)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise InputError(
                f"experiment {model!r} is deleted", where=self.name, hint="restore it in MLflow"
            )
        for name in _KIND.keys() - found.tags.keys():  # made by an older version
            self._client.set_experiment_tag(found.experiment_id, name, _KIND[name])
        return found.experiment_id

    def _artifacts(self, model: str) -> str | None:
        """Where a new experiment's artifacts go, where no server decides that."""
        if connection.is_server(self._uri):
            return None
        root = database.environment(ARTIFACT_ROOT, (state_dir() / MLFLOW_ARTIFACTS).as_uri())
        return f"{root.rstrip('/')}/{model}"

    def begin(self, model: str, start: Start) -> Live:
        """Begin a run; ends those that killed processes have left running in this workspace."""
        with self.client() as client:
            experiment, here = self._experiment(model), f"{socket.gethostname()}:{state_dir()}"
            for run in client.search_runs([experiment], "attributes.status = 'RUNNING'"):
                if run.data.tags.get(_WORKSPACE) == here:
                    client.set_terminated(run.info.run_id, "KILLED")
            tags = {**start.tags, _WORKSPACE: here}
            run = client.create_run(experiment, tags=tags, run_name=start.name)
            client.log_inputs(run.info.run_id, datasets=[data.entity() for data in start.inputs])
            return Live(self._uri, experiment, run.info.run_id)

    def register(self, model: str, package: Package, run_id: str | None = None) -> Version:
        """Log everything of a version into the run that trained it, then make the version.

        A new run is begun where there is none, or where it has a version already. Killed at any
        point, it leaves at most an unfinished run, which the next one ends, or a whole version that
        `find` finds.
        """
        with self.client() as client:
            taken = {version.run_id for version in self.versions(model)}
            if run_id is None or run_id in taken:
                run_id = self.begin(model, package.start).run_id
            experiment = self._experiment(model)
            model_id, seal = self._upload(experiment, run_id, package)
            client.set_terminated(run_id)
            self._register_name(model)
            page = f"#/experiments/{experiment}/models/{model_id}"
            made = client.create_model_version(
                model,
                f"models:/{model_id}",
                run_id,
                tags={**package.version_tags(), **seal},
                description=package.page(page),
                model_id=model_id,
            )
            name = json.dumps([{"name": model, "version": made.version}])
            client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: name})
            return _version(made)

    def _upload(self, experiment: str, run_id: str, package: Package) -> tuple[str, dict[str, str]]:
        """Compose, sign and upload a version's folder and its provenance.

        Gives MLflow's id of it, and tags of both signatures.
        """
        client, source = self._client, f"source_run_id = '{run_id}'"
        for left in client.search_logged_models([experiment], filter_string=source):
            client.delete_logged_model(left.model_id)  # of an upload that failed
        note, params = {MLFLOW_RUN_NOTE: package.description}, package.parameters()
        made = client.create_logged_model(experiment, "student", run_id, note, params)
        package.log(client, run_id, made.model_id)
        with TemporaryDirectory(prefix="iml-version-") as scratch:
            folder, signature = layout.places(Path(scratch))
            package.write(folder, run_id, made)
            seal = {SIGNER: signing.sign(folder, signature)}
            seal[SIGNATURE_HASH] = sha256_file(signature)
            provenance = signature.with_name(layout.PROVENANCE)
            write_json(provenance, attestations.sealed(self._provenance(run_id, package)))
            seal[PROVENANCE_HASH] = sha256_file(provenance)
            client.log_model_artifacts(made.model_id, str(folder))
            for file in (signature, provenance):
                client.log_artifact(run_id, str(file))
        client.log_outputs(run_id, [LoggedModelOutput(made.model_id, 0)])
        client.finalize_logged_model(made.model_id, "READY")
        return made.model_id, seal

    def _provenance(self, run_id: str, package: Package) -> dict[str, Any]:
        """The statement of what made a package, in a run that ends now."""
        began = datetime.fromtimestamp(self._client.get_run(run_id).info.start_time / 1000, UTC)
        times = (time.isoformat(timespec="seconds") for time in (began, datetime.now(UTC)))
        return attestations.provenance(package.record, package.hashes(), run_id, *times)

    def _register_name(self, model: str) -> None:
        try:
            self._client.create_registered_model(model, description=_ABOUT)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def versions(self, model: str) -> list[Version]:
        """Every version of a model, oldest first; empty for an unknown model."""
        with self.client() as client:
            found = _pages(client.search_model_versions, f"name = '{model}'")
        return sorted(map(_version, found), key=lambda version: version.version)

    def holds(self, model: str, version: int) -> bool:
        """Whether there is this version of a model."""
        with self.client() as client:
            return _unless_absent(client.get_model_version, model, str(version)) is not None

    def has_run(self, run_id: str) -> bool:
        """Whether there is this run; a deleted one is there until `mlflow gc`."""
        with self.client() as client:
            return _unless_absent(client.get_run, run_id) is not None

    def find(self, model: str, identity: str, record_sha256: str) -> list[Version]:
        """Versions with this identity and lineage record, oldest first."""
        wanted = {IDENTITY: identity, RECORD_HASH: record_sha256}
        return [v for v in self.versions(model) if wanted.items() <= v.tags.items()]

    def metrics(self, run_id: str) -> dict[str, float]:
        """The metrics of a run, without those of the machine."""
        with self.client() as client:
            found = client.get_run(run_id).data.metrics
        return {name: found[name] for name in found if not name.startswith(MACHINE)}

    def alias(self, model: str) -> int | None:
        """The version that the alias `champion` points at, or None."""
        found = self._registered(model)
        return int(found.aliases[ALIAS]) if found and ALIAS in found.aliases else None

    def set_alias(self, model: str, version: int | None) -> None:
        """Point the alias at a version, or remove it.

        Raises CheckError when MLflow does not have that version.
        """
        with self.client() as client:
            if version is None:
                client.delete_registered_model_alias(model, ALIAS)
                return
            try:
                client.set_registered_model_alias(model, ALIAS, str(version))
            except MlflowException as error:
                if error.error_code != _ABSENT:
                    raise
                raise CheckError(
                    f"version {version} of {model} is missing from MLflow", where=self.name
                ) from None

    def ledger_head(self, model: str) -> str | None:
        """The end of the ledger's chain as it was last noted in MLflow."""
        found = self._registered(model)
        return found.tags.get(LEDGER_HEAD) if found else None

    def ledger_heads(self) -> dict[str, str]:
        """The same of every model that has one, by its name in MLflow."""
        with self.client() as client:
            found = _pages(client.search_registered_models)
        return {model.name: model.tags[LEDGER_HEAD] for model in found if LEDGER_HEAD in model.tags}

    def rename(self, model: str, name: str) -> None:
        """Give a model another name."""
        with self.client() as client:
            client.rename_registered_model(model, name)

    def _registered(self, model: str) -> RegisteredModel | None:
        with self.client() as client:
            return _unless_absent(client.get_registered_model, model)

    def set_ledger_head(self, model: str, text: str) -> None:
        """Note the end of the ledger's chain."""
        with self.client() as client:
            client.set_registered_model_tag(model, LEDGER_HEAD, text)

    def download(self, model: str, version: int, run_id: str, folder: Path) -> tuple[Path, Path]:
        """Fetch a version into a folder: (the version's folder, its signature)."""
        with self.client():
            (folder / layout.FOLDER).mkdir()
            mlflow.artifacts.download_artifacts(
                f"models:/{model}/{version}",
                dst_path=str(folder / layout.FOLDER),
                tracking_uri=self._uri,
                registry_uri=self._uri,
            )
            (folder / layout.FOLDER / _META).unlink(missing_ok=True)
            self._client.download_artifacts(run_id, layout.SIGNATURE, str(folder))
            # Of photos that a version's folder showed, and that were erased since.
            if self._client.list_artifacts(run_id, TOMBSTONES.name):
                self._client.download_artifacts(run_id, TOMBSTONES.name, str(folder))
        return layout.places(folder)

    def erase(self, model: str, version: int, files: Iterable[str], stones: Iterable[Path]) -> None:
        """Put tombstones beside a version's signature, and remove files of its folder."""
        with self.client() as client:
            run_id = client.get_model_version(model, str(version)).run_id or ""
            for stone in stones:
                client.log_artifact(run_id, str(stone), TOMBSTONES.name)
            place = client.get_model_version_download_uri(model, str(version))
            if place.startswith("models:/"):
                place = client.get_logged_model(place.removeprefix("models:/")).artifact_location
            folder = get_artifact_repository(place, tracking_uri=self._uri)
            for file in files:
                folder.delete_artifacts(file)


def _unless_absent(get: Callable[..., T], *names: str) -> T | None:
    """What MLflow's client has under some names; None for nothing."""
    try:
        return get(*names)
    except MlflowException as error:
        if error.error_code == _ABSENT:
            return None
        raise


def _pages(search: Callable[..., Any], query: str | None = None) -> list[Any]:
    """Everything that a search of MLflow's client finds."""
    page = search(query)
    found = list(page)
    while page.token:
        page = search(query, page_token=page.token)
        found += page
    return found


def _version(entry: ModelVersion) -> Version:
    return Version(entry.name, int(entry.version), entry.run_id or "", dict(entry.tags))
