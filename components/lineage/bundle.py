"""One archive with everything that an audit needs, and the same evidence read back from it.

The archive is a plain tar: `case.json` (what MLflow says), `ledger.json`, `version/` and
`version.sig` (the version's folder and its signature), `repository.bundle` (git), `objects/` (laid
out like a DVC remote). The signer's public key is not in it: an audit trusts only the keys of the
machine that it runs on, and whoever sends a bundle hands the key over by another way.
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

from components.core.errors import CheckError, InputError
from components.core.files import atomic, read_json, write_json
from components.lineage.checks import data
from components.lineage.evidence import Evidence, Run
from components.registry import layout
from components.registry.chain import Row
from components.workspace import history
from components.workspace.remote import FOLDER, Objects
from components.workspace.repository import tag_name

SCHEMA = 1
_MEMBERS = 1_000_000  # files and folders in an archive; more is no bundle of ours


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
    """Write a bundle; gives how many objects it has and how many it leaves out.

    Args:
        evidence: collected evidence.
        target: the archive.
        photos: whether the data sets' own files come too.

    Raises:
        CheckError: evidence is missing, so that there is nothing to bundle.
    """
    if evidence.record is None or evidence.repository is None or evidence.objects is None:
        lost = "record" if evidence.record is None else "git repository or DVC remote"
        raise CheckError(
            f"its {lost} is missing or broken; audit it here first", where=evidence.name
        )
    left = 0
    place = target.absolute().parent
    place.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="iml-bundle-", dir=place) as scratch:
        root = Path(scratch)
        with atomic(target) as temporary, tarfile.open(temporary, "w") as archive:
            write_json(root / "case.json", _described(evidence))
            write_json(root / "ledger.json", [asdict(row) for row in evidence.rows])
            tag, commit = (
                tag_name(evidence.model, evidence.version),
                evidence.record["git"]["commit"],
            )
            history.bundle(evidence.repository, commit, tag, root / "repository.bundle")
            for file in sorted(root.iterdir()):
                archive.add(file, file.name)
            archive.add(evidence.files, layout.FOLDER)
            if evidence.signature.is_file():
                archive.add(evidence.signature, layout.SIGNATURE)
            added = 0
            for md5, path in {md5: path for path, md5 in data.contents(evidence)}.items():
                if not photos and _is_photo(path):
                    left += 1
                    continue
                _add(archive, evidence.objects, md5, root / "object")
                added += 1
    return {"objects": added, "left_out": left, "bytes": target.stat().st_size}


def _described(evidence: Evidence) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "model": evidence.model,
        "version": evidence.version,
        "witness": evidence.ledger_head,
        "alias": evidence.alias,
        "run": asdict(evidence.run) if evidence.run else None,
    }


def _is_photo(path: str) -> bool:
    """A photo or mask of a data set; what describes them (boxes, licence) is none."""
    parts = path.split("/")
    return parts[0] == "data" and parts[2:3] in (["photos"], ["masks"])


def _add(archive: tarfile.TarFile, objects: Objects, md5: str, scratch: Path) -> None:
    """Put an object where a DVC remote has it."""
    with objects.open(md5) as source, open(scratch, "wb") as target:
        shutil.copyfileobj(source, target)
    archive.add(scratch, f"objects/{FOLDER}/{md5[:2]}/{md5[2:]}")


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
                what = "is neither a plain file nor a folder" if not plain else "is one too many"
                raise tarfile.ExtractError(f"{member.name!r} {what}")
            archive.extract(member, root, filter="data")


def _read(root: Path, path: Path) -> Evidence:
    said = read_json(root / "case.json")
    try:
        if said["schema"] != SCHEMA:
            raise InputError(f"a bundle of schema {said['schema']}", where=str(path))
        rows = [Row(**row) for row in read_json(root / "ledger.json")]
        run = Run(**said["run"]) if said["run"] else None
        model, version = str(said["model"]), int(said["version"])
        ledger_head, alias = said["witness"], said["alias"]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"not a bundle ({error})", where=str(path)) from None
    files, signature = layout.places(root)
    files.mkdir(exist_ok=True)
    return Evidence(
        model=model,
        version=version,
        source=path.name,
        rows=rows,
        ledger_head=ledger_head,
        alias=alias,
        run=run,
        files=files,
        signature=signature,
        repository=_repository(root),
        objects=Objects.of_folder(root / "objects"),
    )


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
