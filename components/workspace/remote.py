"""The DVC remote as a store of objects named by their MD5: a folder, S3, or an exported bundle."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from io import BytesIO, FileIO
from pathlib import Path
from tempfile import gettempdir
from types import SimpleNamespace
from typing import Any

from components.core.errors import EvidenceError, InputError, UnavailableError, brief
from components.workspace.imports import Import

FOLDER = "files/md5"  # of DVC 3's layout, below the remote's root
_NAME = re.compile(r"[0-9a-f]{32}(\.dir)?")


class MissingError(EvidenceError):
    """An object that the store does not have."""


class Objects:
    """Objects by MD5; the MD5 of a folder ends in `.dir` and its object lists the files.

    Nothing in the store is trusted: `read` hashes what it returns. Objects that the listings of
    imports name are looked for there, too: of these the store needs to have the listings alone.
    What gives the imports, `imports`, is called when an object is first asked for.
    """

    def __init__(self, store: Any, name: str) -> None:
        self._store = store
        self.name = name
        self.local = store.fs.protocol == "local"
        self.imports: Callable[[], Sequence[Import]] = tuple

    @classmethod
    def of_cache(cls) -> Objects:
        """DVC's cache of this workspace."""
        from dvc.repo import Repo

        with Repo() as repo:
            store = repo.cache.local
        return cls(store, str(store.path))

    @property
    def fetched(self) -> Path:
        """Of a cache: where DVC keeps what it fetched for imports, by its path."""
        return Path(self.name).parents[1] / "fs"

    @classmethod
    def of_remotes(cls) -> list[Objects]:
        """Every remote of this workspace."""
        from dvc.config import Config
        from dvc.repo import Repo

        return [cls.of_workspace(name) for name in Config(Repo.find_dvc_dir())["remote"]]

    @classmethod
    def of_workspace(cls, remote: str | None = None) -> Objects:
        """A remote of this workspace, the default one for None; raises InputError without one."""
        from dvc.config import Config
        from dvc.data_cloud import DataCloud
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        try:
            # Opening a `Repo` writes into the workspace, which an auditor may only read.
            settings = {"config": Config(Repo.find_dvc_dir()), "data_index": None}
            own = SimpleNamespace(**settings, site_cache_dir=gettempdir())
            store = DataCloud(own).get_remote_odb(remote)
        except DvcException as error:
            raise InputError(str(error), where="DVC remote") from None
        return cls(store, str(store.path))

    @classmethod
    def of_folder(cls, root: Path) -> Objects:
        """A folder laid out like a DVC remote."""
        from dvc_data.hashfile.db.local import LocalHashFileDB
        from dvc_objects.fs.local import LocalFileSystem

        return cls(LocalHashFileDB(LocalFileSystem(), str(root / FOLDER)), str(root))

    def path(self, md5: str) -> str:
        """An object's place in the store; raises MissingError for what is no object's name.

        Names come from records, also of strangers: `../..` would lead out of the store.
        """
        if not _NAME.fullmatch(md5):
            raise MissingError(f"{md5!r:.60} is no object's name", where=self.name)
        return str(self._store.oid_to_path(md5))

    @cached_property
    def _elsewhere(self) -> dict[str, list[tuple[Import, str]]]:
        """Where objects are outside the store, by MD5: imports, and paths in them."""
        found: dict[str, list[tuple[Import, str]]] = {}
        for one in self.imports():
            with suppress(EvidenceError):  # a lost or damaged listing names nothing
                for path, md5 in listed(self.read(one.listing), one.url).items():
                    if path in one.versions:
                        found.setdefault(md5, []).append((one, path))
        return found

    def _imported(self, md5: str) -> list[tuple[Import, str]]:
        return [] if md5.endswith(".dir") else self._elsewhere.get(md5, [])

    def place(self, md5: str) -> str:
        """Where an object should be, for people."""
        named = [one.named(path) for one, path in self._imported(md5)]
        return " or ".join(named) or "the remote"

    def open(self, md5: str) -> FileIO | BytesIO:
        """An object as a stream of bytes, S3's with the same methods; raises MissingError."""
        path = self.path(md5)
        for one, inner in self._imported(md5):
            if (data := one.read(inner)) is not None:
                return BytesIO(data)
        try:
            if self.local:
                return open(path, "rb", buffering=0)
            return self._store.fs.open(path, "rb")
        except (FileNotFoundError, NotADirectoryError):
            what = f"object {md5} is missing from {self.place(md5)}"
            raise MissingError(what, where=self.name) from None

    def read(self, md5: str) -> bytes:
        """An object's bytes; raises MissingError, or EvidenceError where their MD5 differs."""
        with self.open(md5) as file:
            data = file.read()
        if (found := md5_of(data)) != md5.removesuffix(".dir"):
            raise EvidenceError(f"its MD5 is {found}, expected {md5}", where=self.path(md5))
        return data

    def all(self) -> list[str]:
        """The names of all objects; raises UnavailableError where the store does not answer."""
        with _answering(self.name):
            return sorted(name for name in self._store.all() if _NAME.fullmatch(name))

    def fill(self, named: Mapping[str, str], cache: Any) -> None:
        """Copy the named objects that the store lacks from DVC's cache.

        Args:
            named: MD5 by path.
            cache: of the workspace.

        Raises:
            MissingError: the cache does not have one either, or has other bytes under its name.
        """
        if not (lost := self.missing(named.values())):
            return
        # DVC calls back where it cannot copy; `verify` removes a copy with other bytes.
        self._store.add(
            [cache.oid_to_path(md5) for md5 in lost],
            cache.fs,
            lost,
            verify=True,
            on_error=lambda md5, error: None,
        )
        if lost := self.missing(lost):
            path = next(path for path, md5 in named.items() if md5 == lost[0])
            others = f", and {len(lost) - 1} others" if len(lost) > 1 else ""
            raise MissingError(
                f"object {lost[0]}{others} cannot be copied from DVC's cache to {self.name}",
                where=path,
                hint="`dvc commit -f` takes a file of the workspace into the cache again",
            )

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of the objects that the store does not have; nothing is changed or removed."""
        wanted = set(names)
        real = sorted(name for name in wanted if _NAME.fullmatch(name))
        if self.local:
            # DVC's own check of a folder hashes what is writable and deletes what has changed,
            # which would be the evidence.
            there = [md5 for md5 in real if Path(self.path(md5)).is_file()]
        else:
            there = self._store.oids_exist(real, jobs=8)
        lost = wanted - set(there)
        named = {md5: found for md5 in lost if (found := self._imported(md5))}
        asked = {id(one): one for found in named.values() for one, _ in found}
        gone = {(key, path) for key, one in asked.items() for path in one.gone()}
        for md5, found in named.items():
            if not any((id(one), path) in gone for one, path in found):
                lost.remove(md5)
        return sorted(lost)

    def sizes(self) -> dict[str, tuple[int, float]]:
        """Bytes of every object, and when it was written (seconds since 1970)."""
        if self.local:
            files = {str(p): p.stat() for p in Path(self._store.path).glob("??/*") if p.is_file()}
            every = {path: (stat.st_size, stat.st_mtime) for path, stat in files.items()}
        else:
            found = self._store.fs.fs.find(self._store.path, detail=True)
            every = {p: (of["size"], of["LastModified"].timestamp()) for p, of in found.items()}
        names = {path: "".join(path.rsplit("/", 2)[-2:]) for path in every}
        return {names[path]: known for path, known in every.items() if _NAME.fullmatch(names[path])}

    def remove(self, names: Iterable[str]) -> int:
        """Remove objects, listings of folders first: a listing without its files is a broken one.

        DVC forgets what it knew of the remotes, so that a push looks again. Gives how many were
        there; raises as `all` does.
        """
        from dvc.repo import Repo
        from dvc_data.hashfile.db import get_index

        wanted = set(names)
        with _answering(self.name):
            there = wanted.difference(self.missing(wanted))
            listings = {name for name in there if name.endswith(".dir")}
            for part in (listings, there - listings):
                if part:
                    self._store.fs.remove([self.path(name) for name in sorted(part)])
        with Repo() as repo:
            for remote in repo.config["remote"]:
                get_index(repo.cloud.get_remote_odb(remote)).clear()
        return len(there)


def named_by_git() -> tuple[set[str], set[str]]:
    """What this workspace's outputs are, and those of it and of every branch and tag.

    Files and listings of folders, not what these list.
    """
    from dvc.repo import Repo

    found: dict[str, set[str]] = {}
    with Repo() as repo:
        for revision in repo.brancher(all_branches=True, all_tags=True):
            outs = (out for out in repo.index.outs if out.use_cache and out.hash_info)
            found[revision] = {str(out.hash_info.value) for out in outs}
    return found["workspace"], set().union(*found.values())


def fill(targets: list[str]) -> None:
    """Copy every object of these DVC targets that the default remote lacks from the cache.

    `dvc push` does not look for the files of a folder whose listing is in the remote.

    Raises:
        EvidenceError: an object is lost, or a folder's listing in the remote has changed.
        UnavailableError: the remote does not answer.
    """
    from dvc.repo import Repo

    with Repo() as repo:
        outs = repo.index.targets_view(targets).outs
        outs = [out for out in outs if out.use_cache and out.hash_info]
        named = {str(out): out.hash_info.value for out in outs}
        own = {str(out) for out in outs if out.can_push}  # of an import, only its listing goes
        objects, cache = Objects.of_workspace(), repo.cache.local
        with _answering(objects.name):
            objects.fill(named, cache)
            for path, md5 in [*named.items()]:
                if md5.endswith(".dir") and path in own:
                    files = listed(objects.read(md5), path)
                    named |= {f"{path}/{name}": file for name, file in files.items()}
            objects.fill(named, cache)


def differing(targets: list[str]) -> dict[str, Any]:
    """Imports whose copies here are not what their `.dvc` files say, in the form of `dvc status`.

    That command compares with the bucket's newest objects too, which are no concern of a run, and
    with what `dvc pull` leaves out of DVC's cache: the photos, and the listing, which is put there.
    """
    from dvc.repo import Repo
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.transfer import transfer

    found = {}
    with Repo() as repo:
        cache = repo.cache.local
        for out in repo.index.targets_view(targets).outs:
            made, _, tree = build(cache, out.fs_path, out.fs, "md5", ignore=out.dvcignore)
            if tree.hash_info == out.hash_info:
                transfer(made, cache, {tree.hash_info}, shallow=True)
            else:
                found[out.stage.relpath] = [{"changed outs": {str(out): "modified"}}]
    return found


@contextmanager
def _answering(name: str) -> Iterator[None]:
    """A store's failures in the block become one clear line."""
    from botocore.exceptions import BotoCoreError

    try:
        yield
    except (OSError, BotoCoreError) as error:
        raise UnavailableError(brief(error), where=name) from None


def listed(data: bytes, where: str) -> dict[str, str]:
    """A folder's object, parsed: path below it to MD5; raises EvidenceError for anything else."""
    try:
        return {str(row["relpath"]): str(row["md5"]) for row in json.loads(data)}
    except (ValueError, KeyError, TypeError):
        raise EvidenceError("is not a listing of a folder", where=where) from None


def md5_of(data: bytes) -> str:
    """MD5 as 32 hex digits, by which DVC names objects."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def folder_md5(files: dict[str, bytes]) -> str:
    """The MD5 by which DVC names a folder with these files (path below it to content)."""
    return folder_of({path: md5_of(data) for path, data in files.items()})


def folder_of(files: dict[str, str]) -> str:
    """As `folder_md5`, of files by their MD5."""
    ordered = sorted(files.items(), key=lambda item: item[0].split("/"))
    rows = [{"md5": md5, "relpath": path} for path, md5 in ordered]
    return md5_of(json.dumps(rows, sort_keys=True).encode()) + ".dir"
