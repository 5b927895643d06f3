"""Evidence for the gates, read from what the stages wrote and from what the registry holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.errors import CheckError, InputError
from components.core.files import read_json, sha256_file
from components.core.paths import EVALUATED, EXPORTED, METRICS, PARITY, VALIDATION
from components.registry.comparison import Comparison
from components.registry.downloads import verify_download
from components.registry.gates import GateEvidence
from components.registry.layout import SIGNER
from components.registry.licences import licences
from components.registry.package import FILES
from components.registry.versions import Registry


@dataclass(frozen=True)
class Attested:
    """What the registry's copy of a version shows.

    Its lineage record and its signer's fingerprint; where it is not what was registered, why not.
    """

    record: dict[str, Any] | None
    signer: str | None
    problem: str


def attest(registry: Registry, version: int, facts: Mapping[str, Any]) -> Attested:
    """Fetch a version and check it against the evidence of its `registered` row."""
    try:
        return Attested(verify_download(registry, version, facts), facts[SIGNER], "")
    except CheckError as error:
        return Attested(None, None, error.line())


def collect(
    dataset: str,
    *,
    attested: Attested,
    dirty: Sequence[str] | None,
    champion: int | None,
    comparison: Comparison | None,
    incomparable: str = "",
    latency_ms: float | None,
    twin: bool = False,
    erased: int | None = None,
) -> GateEvidence:
    """Read what the workspace's stages recorded, the evaluation that of the deciding data set.

    A file that is missing or malformed becomes None.
    """
    places = {
        "validation": VALIDATION,
        "evaluation": EVALUATED / dataset / METRICS,
        "parity": PARITY,
    }
    read = {name: _mapping(path) for name, path in places.items()}
    hashes = {name: sha256_file(path) for name, path in places.items() if path.is_file()}
    weights = EXPORTED / FILES[0]
    return GateEvidence(
        validation=read["validation"],
        metrics=read["evaluation"],
        parity=read["parity"],
        dirty=dirty,
        record=attested.record,
        licences=_licences(attested.record),
        signer=attested.signer,
        signature_problem=attested.problem,
        megabytes=weights.stat().st_size / 1e6 if weights.is_file() else None,
        latency_ms=latency_ms,
        comparison=comparison,
        champion=champion,
        hashes=hashes,
        incomparable=incomparable,
        twin=twin,
        erased=erased,
    )


def _licences(record: Mapping[str, Any] | None) -> dict[str, str] | None:
    try:
        return None if record is None else licences(record)
    except (KeyError, TypeError, AttributeError):  # an incomplete record, which has its own gate
        return None


def _mapping(path: Path) -> dict[str, Any] | None:
    try:
        value = read_json(path)
    except InputError:
        return None
    return value if isinstance(value, dict) else None
