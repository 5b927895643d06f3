"""The evidence on a version from the places where it is kept: ledger, MLflow, git, DVC remote."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from components import workspace
from components.core.errors import CheckError, InputError
from components.lineage.evidence import Evidence, Run
from components.registry import chain, layout
from components.registry.chain import Event
from components.registry.versions import Registry, parse_reference
from components.workspace.remote import Objects

_GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND")


@contextmanager
def collect(reference: str, *, whole: bool = True) -> Iterator[Evidence]:
    """Gather what an audit looks at; what cannot be had is None or an empty folder.

    Files that MLflow keeps on this machine are read in place, others are fetched for the block.

    Args:
        reference: `name@champion` or `name/version`.
        whole: fetch all of the version's folder; else its lineage alone.

    Raises:
        InputError: no such version, or a ledger or MLflow that does not answer.
    """
    name, wanted = parse_reference(reference)
    registry = Registry.open(name)
    # The ledger_head first: rows that come in between are then only more than it has seen.
    ledger_head = registry.store.ledger_head(name)
    rows = registry.ledger.rows(name)
    version = chain.champion(rows) if wanted is None else wanted
    known = {row.version for row in rows if row.event == Event.REGISTERED}
    if version is None:
        raise InputError(f"{name} has no champion", where=registry.ledger.name)
    with TemporaryDirectory(prefix="iml-audit-") as scratch, registry.store.client() as client:
        entry = _entry(client, name, version)
        if entry is None and version not in known:
            listed = ", ".join(map(str, sorted(known))) or "none"
            raise InputError(f"{name} has no version {version}", hint=f"known versions: {listed}")
        folder = Path(scratch)
        yield Evidence(
            model=name,
            version=version,
            source=f"{registry.ledger.name}, {registry.store.name}",
            rows=rows,
            ledger_head=ledger_head,
            alias=registry.store.alias(name),
            run=_run(client, entry) if entry else None,
            files=_fetch(
                _model_place(client, entry) if entry else None,
                folder / layout.FOLDER,
                "" if whole else str(Path(layout.RECORD).parent),
            ),
            signature=_fetch(_run_place(client, entry) if entry else None, folder / "run")
            / layout.SIGNATURE,
            repository=_repository(),
            objects=_objects(),
        )


def _repository() -> Path | None:
    """The git repository that we stand in."""
    try:
        workspace.git_commit()
    except CheckError:
        return None
    return Path.cwd()


def _objects() -> Objects | None:
    """The DVC remote of the workspace that we stand in."""
    try:
        return Objects.of_workspace()
    except InputError:
        return None


def _entry(client: MlflowClient, name: str, version: int) -> ModelVersion | None:
    try:
        return client.get_model_version(name, str(version))
    except MlflowException as error:
        if error.error_code in _GONE:
            return None
        raise


def _run(client: MlflowClient, entry: ModelVersion) -> Run | None:
    try:
        found = client.get_run(entry.run_id or "")
    except MlflowException as error:
        if error.error_code in _GONE:
            return None
        raise
    if found.info.lifecycle_stage != "active":
        return None
    data = found.data
    return Run(
        run_id=found.info.run_id,
        status=found.info.status,
        version_tags=dict(entry.tags),
        tags=dict(data.tags),
        params=dict(data.params),
        metrics=dict(data.metrics),
    )


def _run_place(client: MlflowClient, entry: ModelVersion) -> str | None:
    try:
        return client.get_run(entry.run_id or "").info.artifact_uri
    except MlflowException:
        return None


def _model_place(client: MlflowClient, entry: ModelVersion) -> str | None:
    try:
        return client.get_model_version_download_uri(entry.name, entry.version)
    except MlflowException:
        return None


def _fetch(place: str | None, scratch: Path, part: str = "") -> Path:
    """A folder of MLflow's on this machine, or a part of it; an empty one where there is none."""
    scratch.mkdir()
    if place is None:
        return scratch
    local = place.startswith(("file:", "/"))
    try:
        found = Path(
            mlflow.artifacts.download_artifacts(
                artifact_uri=place if local or not part else f"{place}/{part}",
                dst_path=None if local else str(scratch),
            )
        )
    except (MlflowException, OSError):
        return scratch
    # MLflow gives the folder of the last name in the address: of the part, where one is asked for.
    folder = found if local or not part else scratch
    return folder if folder.is_dir() else scratch
