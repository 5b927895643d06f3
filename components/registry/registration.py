"""Registering: files and facts into MLflow, signed, fetched back and checked, then the ledger."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from components.core.errors import CheckError
from components.registry.alias import sync_alias
from components.registry.chain import Event
from components.registry.downloads import verify_download
from components.registry.layout import RECORD_HASH, SIGNATURE_HASH, SIGNER
from components.registry.ledger import Entry
from components.registry.tracking import Version
from components.registry.versions import Registry

if TYPE_CHECKING:  # it imports torch, which reading the registry does not need
    from components.registry.package import Package


def register(
    registry: Registry, package: Package, *, clean: bool, actor: str, run_id: str | None = None
) -> int:
    """The version of a package: the one the ledger has, an interrupted one completed, or a new one.

    A version made in a workspace with uncommitted changes is registered anew once the same files
    come from a clean one, because its lineage record could not be replayed.

    Args:
        registry: where.
        package: files and facts.
        clean: whether the workspace has no uncommitted change.
        actor: who does it.
        run_id: the MLflow run that trained it; a new one where there is none.
    """
    rows = registry.rows()
    identity = package.identity
    born = [row for row in rows if row.event == Event.REGISTERED]
    for row in reversed(born):
        facts = row.facts()
        if facts["identity"] == identity and (facts["clean"] or not clean):
            return row.version
    version = _interrupted(registry, package, {row.version for row in born})
    if version is None:
        version = registry.store.register(registry.model, package, run_id)
        verify_download(registry, version.version, _facts(version, package))
    evidence = {**_facts(version, package), "clean": clean}
    reason = "trained by the pipeline"
    registry.ledger.append(
        Entry(registry.model, Event.REGISTERED, version.version, actor, reason, evidence)
    )
    sync_alias(registry)
    return version.version


def _interrupted(registry: Registry, package: Package, known: set[int]) -> Version | None:
    """A whole version of this package that MLflow has and the ledger does not."""
    found = registry.store.find(registry.model, package.identity, package.record_sha256)
    for version in reversed(found):
        if version.version not in known:
            with suppress(CheckError):
                verify_download(registry, version.version, _facts(version, package))
                return version
    return None


def _facts(version: Version, package: Package) -> dict[str, Any]:
    """What the ledger says of a version; of its signature, what its tags say."""
    return {
        "identity": package.identity,
        "run_id": version.run_id,
        RECORD_HASH: package.record_sha256,
        SIGNATURE_HASH: version.tags.get(SIGNATURE_HASH),
        SIGNER: version.tags.get(SIGNER),
        "files": package.hashes(),
        "tags": dict(package.tags),
    }
