"""Local copies of versions: fetched from MLflow, checked against ledger and signature, kept.

A copy is checked every time it is asked for; one that is not whole is fetched again. To predict,
the hashes of the student's files in the ledger are enough: once fetched and verified, a version
answers without MLflow. Where the state folder cannot be written, copies last as long as the
process.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core import errors
from components.core.errors import (
    CheckError,
    EvidenceError,
    ImlError,
    InputError,
    UnavailableError,
)
from components.core.files import alone, read_json, sha256_file, sha256_json, write_json
from components.core.paths import MODEL_CACHE, TOMBSTONES, state_dir
from components.registry import chain, layout, signing, tombstones
from components.registry.chain import LedgerHead, Row
from components.registry.layout import RECORD_HASH, SIGNATURE_HASH, SIGNER, places
from components.registry.ledger import Ledger
from components.registry.versions import Registry, named, parse_reference, registration
from components.serving.origin import Student

if TYPE_CHECKING:
    import pandas as pd

_RESTORE = "restore MLflow's store from a backup"
SCHEMA = 1  # of what is remembered of a champion
_FETCH = """
import json, sys
from components.core.errors import ImlError
from components.registry.downloads import fetch
try:
    fetch(sys.argv[1])
except ImlError as error:
    print(json.dumps([type(error).__name__, error.line()]))
"""
_log = logging.getLogger("iml")


def fetch(reference: str) -> Student:
    """A student's files in a local folder; those of a version are verified.

    The ledger says which version that is and what its files hash to. A copy that was verified
    before and has these hashes is used as it is, without MLflow; where the ledger does not answer,
    that of the champion it last named here, with a warning.

    Args:
        reference: `name@champion`, `name/version` or a folder.

    Raises:
        InputError: no such model.
        UnavailableError: unreachable ledger or store, and no copy.
        CheckError: files, record, signature or ledger are not what was recorded.
    """
    if found := _local(reference, remembered=True):
        return found
    name, version = parse_reference(reference)
    registry = Registry.open(name)
    rows = registry.rows()
    row = named(rows, name, version, registry.ledger.name)
    found = student(verified_copy(registry, row), row)
    _remember(rows)
    return found


def fetch_lightly(reference: str, remembered: bool) -> Student:
    """As `fetch`, without MLflow in this process: what it has to bring is brought by another one.

    With `remembered` the champion that the ledger last named will do where it does not answer;
    else UnavailableError is raised.
    """
    if found := _local(reference, remembered):
        return found
    done = subprocess.run(
        [sys.executable, "-c", _FETCH, reference],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise EvidenceError(f"cannot be fetched ({lines[-1]})", where=reference)
    if done.stdout:
        kind, line = json.loads(done.stdout)
        raise getattr(errors, kind, CheckError)(line)
    return _local(reference, remembered) or fetch(reference)


def _local(reference: str, remembered: bool) -> Student | None:
    """A student that is here and verified, as `fetch` gives it; None if it has to be fetched."""
    if os.path.isdir(reference):
        return Student(Path(reference), reference, None)
    name, version = parse_reference(reference)
    row = _by_ledger(name, version, remembered)
    folder = _kept(row) if row else None
    if row is None or folder is None:
        return None

    def refusal() -> EvidenceError | None:
        verified_copy(Registry.open(name), row)
        return signing.refusal(row.facts()[SIGNER])

    return Student(folder / layout.ARTIFACTS, name, row.version, refusal)


def student(folder: Path, row: Row) -> Student:
    """The student in a version's verified copy."""
    signer = row.facts()[SIGNER]
    files = folder / layout.ARTIFACTS
    return Student(files, row.model, row.version, lambda: signing.refusal(signer))


def _memory(name: str) -> Path:
    return state_dir() / MODEL_CACHE / f"{name}.json"


def _remember(rows: Sequence[Row]) -> None:
    """Keep where a model's verified ledger ends, and its champion: MLflow need not be asked next.

    Without a champion, or in a state folder that cannot be written, nothing is kept.
    """
    champion = chain.champion(rows)
    if champion is None:
        return
    head = LedgerHead(rows[-1].sequence, rows[-1].hash)
    row = registration(rows, champion)
    seen = datetime.now(UTC).isoformat(timespec="seconds")
    values = {"schema": SCHEMA, "seen": seen, "ledger_head": str(head), "row": asdict(row)}
    with suppress(OSError):
        write_json(_memory(row.model), values)


def _by_ledger(name: str, version: int | None, remembered: bool) -> Row | None:
    """The `registered` row of a version, or of the champion for None, without MLflow.

    The ledger must continue the one that was last read here, with MLflow's word for its end. Where
    it does not answer, its last champion is given, with a warning, if `remembered`. None if nothing
    is remembered.
    """
    try:
        kept = read_json(_memory(name))
        head, champion = LedgerHead.parse(kept["ledger_head"]), Row(**kept["row"])
        if kept["schema"] != SCHEMA or champion.model != name:
            return None
    except (InputError, KeyError, TypeError):
        return None
    try:
        ledger = Ledger()
        rows = ledger.verify(name, head)
    except UnavailableError as error:
        if not remembered or version not in (None, champion.version):
            raise
        _log.warning(
            f"{error.what}: using the local copy of {name}/{champion.version}, champion when the "
            f"ledger was last read, {kept['seen']}"
        )
        return champion
    row = named(rows, name, version, ledger.name)
    if chain.withdrawn(rows, row.version):
        raise _deleted(name, row.version, row.version == chain.champion(rows))
    _remember(rows)
    return row


def _kept(row: Row) -> Path | None:
    """The local copy of a version whose student is the registered one, file by file, if any."""
    facts = row.facts()
    folder = places(state_dir() / MODEL_CACHE / str(facts.get(SIGNATURE_HASH)))[0]
    files = {folder / layout.ARTIFACTS / name: sha for name, sha in facts["files"].items()}
    same = all(path.is_file() and sha256_file(path) == sha for path, sha in files.items())
    return folder if same else None


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
    from components.data import manifest

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
    if not registry.store.holds(registry.model, version):
        raise _deleted(registry.model, version, version == registry.ledger.champion(registry.model))


def _deleted(model: str, version: int, champion: bool) -> EvidenceError:
    hint = _RESTORE
    if champion:
        hint += ", or make an earlier champion the champion again with `iml model rollback`"
    what = "MLflow no longer has this version"
    return EvidenceError(what, where=f"{model}/{version}", hint=hint)


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
    name, run = f"{registry.model}/{version}", facts["run_id"]
    if not registry.store.has_run(run):
        what = f"MLflow no longer has its run {run}, which held the signature"
        raise EvidenceError(what, where=name, hint=_RESTORE)
    folder.mkdir()
    try:
        registry.store.download(registry.model, version, run, folder)
    except InputError as error:
        raise EvidenceError("its files cannot be fetched", where=name, hint=error.what) from None
    return check(folder, facts, name)


def check(folder: Path, facts: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Check what `Store.download` left in a folder, as `verify_download` does."""
    if not facts.get(SIGNATURE_HASH) or not facts.get(SIGNER):
        raise EvidenceError("was registered without a signature", where=name)
    files, signature = places(folder)
    try:
        signing.verified(
            files,
            signature,
            sha256=facts[SIGNATURE_HASH],
            key=facts[SIGNER],
            erased=lambda absent: tombstones.covered(absent, TOMBSTONES, folder / TOMBSTONES.name),
        )
        record = read_json(files / layout.RECORD)
    except ImlError as error:
        raise EvidenceError(error.what, where=name, hint=error.hint) from None
    if sha256_json(record) != facts[RECORD_HASH]:
        raise EvidenceError("its lineage record is not the one that was registered", where=name)
    return record
