"""One archive with everything that an audit needs, and the same evidence read back from it.

The archive is a plain tar: `case.json` (what MLflow says), `ledger.json`, `version/` and
`version.sig` (the version's folder and its signature), `provenance.intoto.json` (its attestation),
`repository.bundle` (git), `objects/` (laid out like a DVC remote), `tombstones/` of erased photos.
The signer's public key is not in it: an audit trusts only the keys of the machine that it runs on,
and whoever sends a bundle hands over the key in another way.
"""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from components.core.errors import CheckError, EvidenceError, InputError
from components.core.files import atomic, read_json, write_json
from components.core.paths import TOMBSTONES
from components.lineage.checks import data
from components.lineage.evidence import Evidence, Run
from components.registry import layout, tombstones
from components.registry.chain import Event, Row
from components.workspace import history
from components.workspace.remote import FOLDER, Objects
from components.workspace.repository import tag_name

SCHEMA = 3  # 1: rows without signatures, no checkpoints; 2: no provenance, no tombstones
_MEMBERS = 1_000_000  # most files and folders in an archive


@contextmanager
def evidence_of(reference: str, *, whole: bool = True) -> Iterator[Evidence]:
    """The evidence on a version: from a bundle where the reference is a file, else collected.

    Raises:
        InputError: no such version, no bundle, or a ledger or MLflow that does not answer.
    """
    if Path(reference).is_file():
        with opened(Path(reference)) as evidence:
            yield evidence
        return
    # MLflow's import takes seconds, which a bundle does not need.
    from components.lineage.collect import collect

    with collect(reference, whole=whole) as evidence:
        yield evidence


def export(evidence: Evidence, target: Path, *, photos: bool) -> dict[str, int]:
    """Write a bundle; returns how many objects it has and leaves out, and its size in bytes.

    Args:
        evidence: collected evidence.
        target: the archive.
        photos: whether to include photos and masks.

    Raises:
        EvidenceError: evidence is missing, so that there is nothing to bundle.
    """
    if not evidence.has_record or evidence.repository is None or evidence.objects is None:
        lost = "git repository or DVC remote" if evidence.has_record else "record"
        what = f"its {lost} is missing or broken; audit it here first"
        raise EvidenceError(what, where=evidence.name)
    place = target.absolute().parent
    place.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="iml-bundle-", dir=place) as scratch:
        root = Path(scratch)
        with atomic(target) as temporary, tarfile.open(temporary, "w") as archive:
            case = {
                "schema": SCHEMA,
                "model": evidence.model,
                "version": evidence.version,
                "witness": evidence.ledger_head,
                "alias": evidence.alias,
                "run": asdict(evidence.run) if evidence.run else None,
                "checkpoints": evidence.checkpoints,
            }
            write_json(root / "case.json", case)
            write_json(root / "ledger.json", [asdict(row) for row in evidence.rows])
            commit = evidence.record["git"]["commit"]
            tag = tag_name(evidence.model, evidence.version)
            history.bundle(evidence.repository, commit, tag, root / "repository.bundle")
            for file in sorted(root.iterdir()):
                archive.add(file, file.name)
            archive.add(evidence.files, layout.FOLDER)
            for file in (evidence.signature, evidence.provenance):
                if file.is_file():
                    archive.add(file, file.name)
            named = {md5: path for path, md5 in data.contents(evidence)}
            for stone in {Path(path).name: path for path in evidence.tombstones.valid}.values():
                archive.add(stone, f"{TOMBSTONES.name}/{Path(stone).name}")
            for md5 in set(evidence.objects.missing(named)) & evidence.tombstones.objects.keys():
                del named[md5]
            of_data = evidence.names.path("dataset")
            added = [md5 for md5, path in named.items() if photos or not _is_photo(path, of_data)]
            for md5 in added:
                # Where a DVC remote has it.
                with evidence.objects.open(md5) as source, open(root / "object", "wb") as copy:
                    shutil.copyfileobj(source, copy)
                archive.add(root / "object", f"objects/{FOLDER}/{md5[:2]}/{md5[2:]}")
    size = target.stat().st_size
    return {"objects": len(added), "left_out": len(named) - len(added), "bytes": size}


def attestations(evidence: Evidence) -> list[dict[str, Any]]:
    """The version's in-toto attestations, in envelopes: what made it, then each gating's result.

    Raises EvidenceError where it has none, because an earlier program registered it.
    """
    found = [read_json(evidence.provenance)] if evidence.provenance.is_file() else []
    facts = [row.facts() for row in evidence.own_rows if row.event == Event.GATED]
    found += [of[layout.TEST_RESULT] for of in facts if layout.TEST_RESULT in of]
    if not found:
        raise EvidenceError("has no attestations, or they are missing", where=evidence.name)
    return found


def _is_photo(path: str, root: str) -> bool:
    """A photo or mask of a data set, not what describes them (boxes, licence)."""
    inner = path.removeprefix(root).split("/")[1:2]
    return path.startswith(root) and inner in (["photos"], ["masks"])


@contextmanager
def opened(path: Path) -> Iterator[Evidence]:
    """The evidence in a bundle, unpacked for the block.

    Raises:
        InputError: not a bundle, or no room to unpack it.
    """
    with TemporaryDirectory(prefix="iml-audit-") as scratch:
        root = Path(scratch)
        try:
            _unpack(path, root)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise InputError(f"not a bundle ({error})", where=str(path)) from None
        yield _read(root, path)


def _unpack(path: Path, root: Path) -> None:
    """Put the files and folders of an archive from outside below `root`.

    A plain tar is no smaller than the files in it, so that its size bounds what they take; only
    sparse files could grow, and are refused like links and devices.
    """
    size, free = path.stat().st_size, shutil.disk_usage(root).free
    if size > free:
        what = f"takes {size / 1e9:.1f} GB unpacked, and {root.parent} has {free / 1e9:.1f}"
        raise InputError(what, where=str(path), hint="set TMPDIR to a folder with more room")
    with tarfile.open(path, "r:") as archive:
        count = 0
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # else it keeps every one
            count += 1
            plain = (member.isfile() or member.isdir()) and not member.issparse()
            if not plain or count > _MEMBERS:
                what = "is one too many" if plain else "is neither a plain file nor a folder"
                raise tarfile.ExtractError(f"{member.name!r} {what}")
            archive.extract(member, root, filter="data")


def _read(root: Path, path: Path) -> Evidence:
    case = read_json(root / "case.json")
    files, signature = layout.places(root)
    files.mkdir(exist_ok=True)
    try:
        if case["schema"] not in range(1, SCHEMA + 1):
            raise InputError(f"a bundle of schema {case['schema']}", where=str(path))
        return Evidence(
            model=str(case["model"]),
            version=int(case["version"]),
            source=path.name,
            rows=[Row(**row) for row in read_json(root / "ledger.json")],
            ledger_head=case["witness"],
            alias=case["alias"],
            run=Run(**case["run"]) if case["run"] else None,
            files=files,
            signature=signature,
            repository=_repository(root),
            objects=Objects.of_folder(root / "objects"),
            checkpoints=case.get("checkpoints"),
            tombstones=tombstones.read(root / TOMBSTONES.name),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"not a bundle ({error})", where=str(path)) from None


def _repository(root: Path) -> Path | None:
    """The bundle's repository; None where it is missing or git cannot read it."""
    source, target = root / "repository.bundle", root / "repository.git"
    if not source.is_file():
        return None  # a folder would be cloned by copying objects, unhashed
    try:
        history.clone(source, target, bare=True)
    except CheckError:
        return None
    return target
