"""The evidence on a version from the places where it is kept: ledger, MLflow, git, DVC remote."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException

from components import workspace
from components.core.errors import InputError
from components.core.paths import TOMBSTONES
from components.lineage.evidence import Evidence, Run
from components.registry import chain, checkpoints, layout, tombstones
from components.registry.chain import Event
from components.registry.versions import Registry, parse_reference
from components.workspace.remote import Objects

_GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND")


@contextmanager
def collect(reference: str, *, whole: bool = True) -> Iterator[Evidence]:
    """Collect what an audit looks at; what cannot be had is None or an empty folder.

    Files that MLflow keeps on this machine are read in place, others are fetched for the block.

    Args:
        reference: `name@champion` or `name/version`.
        whole: fetch all of the version's folder; else its lineage alone.

    Raises:
        EvidenceError: the model was renamed in MLflow.
        InputError: no such version, or a ledger or MLflow that does not answer.
    """
    name, wanted = parse_reference(reference)
    registry = Registry.open(name)
    # What has seen the ledger first: rows that come in between are then only more than that.
    kept, ledger_head = checkpoints.published(name), registry.store.ledger_head(name)
    rows = registry.ledger.rows(name)
    if rows and ledger_head is None and registry.renamed(rows):
        raise registry.without_note(rows)
    version = chain.champion(rows) if wanted is None else wanted
    known = {row.version for row in rows if row.event == Event.REGISTERED}
    if version is None:
        raise InputError(f"{name} has no champion", where=registry.ledger.name)
    with TemporaryDirectory(prefix="iml-audit-") as scratch, registry.store.client() as client:
        entry = _found(lambda: client.get_model_version(name, str(version)))
        if entry is None and version not in known:
            listed = ", ".join(map(str, sorted(known))) or "none"
            raise InputError(f"{name} has no version {version}", hint=f"known versions: {listed}")
        run = entry and _found(lambda: client.get_run(entry.run_id or ""))
        model = entry and _found(lambda: client.get_model_version_download_uri(name, str(version)))
        part = "" if whole else str(Path(layout.RECORD).parent)
        own = _fetch(run and run.info.artifact_uri, Path(scratch, "run"))
        evidence = Evidence(
            model=name,
            version=version,
            source=f"{registry.ledger.name}, {registry.store.name}",
            rows=rows,
            ledger_head=ledger_head,
            alias=registry.store.alias(name),
            run=_run(entry, run) if run and run.info.lifecycle_stage == "active" else None,
            files=_fetch(model, Path(scratch, layout.FOLDER), part),
            signature=own / layout.SIGNATURE,
            repository=Path.cwd() if _or_none(workspace.git_commit, InputError) else None,
            objects=_or_none(Objects.of_workspace, InputError),
            checkpoints=kept,
            tombstones=tombstones.read(TOMBSTONES, own / TOMBSTONES.name),
        )
        if evidence.objects:
            evidence.objects.imports = evidence.imports
        yield evidence


def _or_none(ask: Callable[[], Any], absent: type[Exception]) -> Any:
    """The answer, or None where the workspace has none and raises this."""
    try:
        return ask()
    except absent:
        return None


def _found(ask: Callable[[], Any]) -> Any:
    """What MLflow has; None where it has none."""
    try:
        return ask()
    except MlflowException as error:
        if error.error_code in _GONE:
            return None
        raise


def _run(entry: Any, run: Any) -> Run:
    return Run(
        run_id=run.info.run_id,
        status=run.info.status,
        version_tags=dict(entry.tags),
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
    )


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
