"""Local copies of versions: fetched from MLflow, checked against ledger and signature, kept.

A copy is checked every time it is asked for; one that is not whole is fetched again. Where the
state folder cannot be written, copies last as long as the process.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from components.core.errors import CheckError, EvidenceError, ImlError, InputError
from components.core.files import alone, read_json, sha256_json
from components.core.paths import MODEL_CACHE, state_dir
from components.data import manifest
from components.registry import layout, signing
from components.registry.chain import Row
from components.registry.layout import RECORD_HASH, SIGNATURE_HASH, SIGNER, places
from components.registry.versions import Registry, parse_reference, resolve
from components.serving.origin import Student


def fetch(reference: str) -> Student:
    """A student's files in a local folder; those of a version are verified.

    Args:
        reference: `name@champion`, `name/version` or a folder.

    Raises:
        InputError: no such model, unreachable ledger or store.
        CheckError: files, record, signature or ledger are not what was recorded.
    """
    if os.path.isdir(reference):
        return Student(Path(reference), reference, None)
    name, version = parse_reference(reference)
    registry = Registry.open(name)
    row = resolve(registry, version)
    return student(verified_copy(registry, row), row)


def student(folder: Path, row: Row) -> Student:
    """The student in a version's verified copy, and whether its code may be run here."""
    files, refusal = folder / layout.ARTIFACTS, signing.refusal(row.facts()[SIGNER])
    return Student(files, row.model, row.version, refusal)


def verified_copy(registry: Registry, row: Row) -> Path:
    """The local copy of a version's whole folder, checked now; fetched where it is not whole.

    Raises CheckError where what the store holds is not what was registered, or is missing.
    """
    facts, name = row.facts(), f"{row.model}/{row.version}"
    _check_held(registry, row.version)
    for folder in dict.fromkeys((state_dir() / MODEL_CACHE, _cache())):
        kept = folder / str(facts.get(SIGNATURE_HASH))
        with suppress(CheckError):
            check(kept, facts, name)
            return places(kept)[0]
    with (
        alone(kept.with_name(f".{kept.name}.lock")),
        tempfile.TemporaryDirectory(dir=kept.parent, prefix=".fetch-") as scratch,
    ):
        with suppress(CheckError):  # another process may have fetched it meanwhile
            check(kept, facts, name)
            return places(kept)[0]
        new = Path(scratch, "new")
        _download(registry, row.version, facts, new)
        if kept.exists():
            kept.replace(Path(scratch, "damaged"))
        new.replace(kept)
    return places(kept)[0]


def unknown_to(version: Path, photos: pd.DataFrame) -> pd.DataFrame:
    """Those rows of a manifest's photos that a version was neither trained nor tuned on.

    The version's folder (from `verified_copy`) carries its own manifest.
    """
    known = manifest.read_columns(version / layout.MANIFEST, "sha256", "split")
    known = known[known["split"] != "test"]
    return photos[~photos["sha256"].isin(known["sha256"])].reset_index(drop=True)


def verify_download(registry: Registry, version: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Fetch a version and check it against its `registered` row; gives its lineage record.

    Raises:
        CheckError: a file, the record or the signature is not the one registered, or missing.
    """
    _check_held(registry, version)
    with tempfile.TemporaryDirectory(dir=_cache(), prefix=".check-") as scratch:
        return _download(registry, version, facts, Path(scratch, "new"))


def _check_held(registry: Registry, version: int) -> None:
    """Raise EvidenceError for a version that was deleted in MLflow, whatever is kept here."""
    if registry.store.holds(registry.model, version):
        return
    hint = "restore MLflow's store from a backup"
    if version == registry.ledger.champion(registry.model):
        hint += ", or make an earlier champion the champion again with `iml model rollback`"
    raise EvidenceError(
        "MLflow no longer has this version", where=f"{registry.model}/{version}", hint=hint
    )


def _cache() -> Path:
    """Where copies are kept: below the state folder or, if that is read-only, as long as we run."""
    folder = state_dir() / MODEL_CACHE
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return folder if os.access(folder, os.W_OK | os.X_OK) else Path(_temporary().name)


@cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="iml-models-")


def _download(
    registry: Registry, version: int, facts: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    name = f"{registry.model}/{version}"
    folder.mkdir()
    try:
        registry.store.download(registry.model, version, facts["run_id"], folder)
    except InputError as error:
        raise EvidenceError("its files cannot be fetched", where=name, hint=error.what) from None
    return check(folder, facts, name)


def check(folder: Path, facts: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Check what `Store.download` left in a folder, as `verify_download` does."""
    if not facts.get(SIGNATURE_HASH) or not facts.get(SIGNER):
        raise EvidenceError("was registered without a signature", where=name)
    files, signature = places(folder)
    try:
        signing.verified(files, signature, sha256=facts[SIGNATURE_HASH], key=facts[SIGNER])
        record = read_json(files / layout.RECORD)
    except ImlError as error:
        raise EvidenceError(error.what, where=name, hint=error.hint) from None
    if sha256_json(record) != facts[RECORD_HASH]:
        raise EvidenceError("its lineage record is not the one that was registered", where=name)
    return record
