"""Models in Hugging Face format: a folder of the user's, or fetched from a model hub at a commit.

What is read of a model is its configuration and its safetensors; pickle, and code that comes with
it, is neither fetched nor read. The hub's address and token are the environment's `HF_ENDPOINT` and
`HF_TOKEN`, as for its own library. Every file is checked against the hash that the hub states for
it at that commit; the SHA-256 of all are kept beside them, and the hub is not asked again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Collection
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

from components.core.errors import InputError, UnavailableError
from components.core.files import read_json, sha256_file, sha256_json, write_json
from components.core.progress import Progress
from components.pseudo_label.checkpoints import AGAIN, download, with_bar

UNKNOWN = "unknown"
CONFIG, MANIFEST = "config.json", "files.json"
_CONFIGS = (CONFIG, "preprocessor_config.json", "processor_config.json")
_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_HUB, _ADDRESS, _TOKEN = "https://huggingface.co", "HF_ENDPOINT", "HF_TOKEN"
_TIMEOUT, _MOST = 30.0, 1 << 24  # seconds; bytes of a listing


@dataclass(frozen=True)
class Folder:
    """A model in a folder."""

    path: Path

    @property
    def file(self) -> str:
        """What it is called."""
        return str(self.path)

    @property
    def size(self) -> int:
        """Of the files that are read, in bytes."""
        return sum(path.stat().st_size for path in self._files())

    @property
    def sha256(self) -> str | None:
        """What `digest` must be, or None where nothing says so."""
        return None

    @property
    def licence(self) -> str:
        """Of a user's own: unknown."""
        return UNKNOWN

    def on_disk(self) -> bool:
        """Whether it is there."""
        return self.path.is_dir()

    def digest(self) -> str | None:
        """SHA-256 of the list of its files, each with its own; None where it is not there."""
        return sha256_json(self._hashes()) if self.on_disk() else None

    def checked(self) -> str:
        """`digest`; InputError where files are missing, or not those that were fetched."""
        found = self.digest()
        if found is None or found != (self.sha256 or found):
            raise InputError(
                "its files are not those that were fetched (their SHA-256 differ)",
                where=str(self.path),
                hint="delete the folder and run `iml teacher fetch`",
            )
        return found

    def fetch(self, progress: Progress | None = None) -> Path:
        """Its path: there is nothing to fetch."""
        return self.path

    def fetch_with_bar(self) -> Path:
        """`fetch`, shown on stderr."""
        return with_bar(self.file, self.fetch)

    def _hashes(self) -> dict[str, str]:
        return {path.name: sha256_file(path) for path in self._files()}

    def _files(self) -> list[Path]:
        where = str(self.path)
        return [self.path / name for name in _read({p.name for p in self.path.iterdir()}, where)]


@dataclass(frozen=True)
class Published(Folder):
    """A model of a hub at a commit, and the folder it is fetched into.

    `check` raises InputError by the file `config.json`, before the weights are fetched.
    """

    name: str
    commit: str
    check: Callable[[Path], object]

    @property
    def file(self) -> str:
        """What it is called."""
        return f"{self.name}@{self.commit[:12]}"

    @property
    def size(self) -> int:
        """As fetched, in bytes; 0 before."""
        return sum(file["size"] for file in self._manifest().get("files", {}).values())

    @property
    def sha256(self) -> str | None:
        """Of what was fetched; None before."""
        return self._manifest().get("sha256")

    @property
    def licence(self) -> str:
        """As the hub named it when it was fetched, or unknown."""
        return str(self._manifest().get("licence", UNKNOWN))

    def on_disk(self) -> bool:
        """Whether it was fetched to the end."""
        return bool(self._manifest())

    def _manifest(self) -> dict[str, Any]:
        path = self.path / MANIFEST
        return dict(read_json(path)) if path.is_file() else {}

    def fetch(self, progress: Progress | None = None) -> Path:
        """Fetch it unless it is there; its folder.

        Raises InputError for an unreachable hub, an unknown model or commit, a model that is no
        teacher, or a wrong hash; the next call continues an interrupted download.
        """
        if self.on_disk():
            return self.path
        try:
            listing = self._listing()
            files, done = self._stated(listing), 0
            total = sum(file.size for file in files)
            for file in files:
                self._bring(file, _behind(progress, done, total))
                done += file.size
        except UnavailableError as error:
            raise InputError(
                f"cannot fetch {self.file} ({error.what})", where=error.where, hint=AGAIN
            ) from None
        hashes = self._hashes()
        facts = {file.name: {"size": file.size, "sha256": hashes[file.name]} for file in files}
        kept = {"schema": 1, "model": self.name, "commit": self.commit}
        kept |= {"licence": _licence(listing), "sha256": sha256_json(hashes), "files": facts}
        write_json(self.path / MANIFEST, kept)
        return self.path

    def _listing(self) -> dict[str, Any]:
        """What the hub says of the model at this commit."""
        url = f"{_hub()}/api/models/{self.name}/revision/{self.commit}?blobs=True"
        request = urllib.request.Request(url)  # noqa: S310 - the scheme is checked
        if token := os.environ.get(_TOKEN):
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
                listing = json.loads(answer.read(_MOST))
        except urllib.error.HTTPError as error:
            raise _refused(error, url) from None
        except (OSError, HTTPException) as error:
            reason = str(getattr(error, "reason", "") or error or type(error).__name__)
            raise UnavailableError(reason, where=url) from None
        except ValueError:
            raise InputError("the answer is no list of files", where=url) from None
        if not isinstance(listing, dict) or listing.get("sha") != self.commit:
            raise InputError(f"the answer is not about commit {self.commit[:12]}", where=url)
        return listing

    def _stated(self, listing: dict[str, Any]) -> list[_File]:
        """The files that are read, as the hub states them."""
        try:
            found = {row["rfilename"]: row for row in listing["siblings"]}
            return [_stated(found[name]) for name in _read(found, f"{_hub()}/{self.name}")]
        except (KeyError, TypeError, ValueError):
            what = "the hub states no size or hash of its files"
            raise InputError(what, where=f"{_hub()}/{self.name}") from None

    def _bring(self, file: _File, progress: Progress | None) -> None:
        target = self.path / file.name
        if target.is_file() and file.hashed(target) != file.digest:
            target.unlink()
        if not target.exists():
            download(
                f"{_hub()}/{self.name}/resolve/{self.commit}/{file.name}",
                target,
                size=file.size,
                sha256=file.digest,
                hashed=file.hashed,
                token=os.environ.get(_TOKEN, ""),
                progress=progress,
            )
        if file.name == CONFIG:
            self.check(target)


class _File(NamedTuple):
    """A file as a hub states it."""

    name: str
    size: int
    digest: str
    hashed: Callable[[Path], str]


def _stated(row: dict[str, Any]) -> _File:
    """From a row of a listing: large files have a SHA-256, small ones git's own name."""
    name, size = row["rfilename"], int(row["size"])
    if lfs := row.get("lfs"):
        return _File(name, size, str(lfs["sha256"]), sha256_file)
    return _File(name, size, str(row["blobId"]), _git_blob)


def _git_blob(path: Path) -> str:
    """A file's name in git."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _read(names: Collection[str], where: str) -> list[str]:
    """Those files of a model that are read; InputError where it has no safetensors."""
    shards = sorted(name for name in names if _SHARD.fullmatch(name))
    weights = [_WHOLE] if _WHOLE in names else [_INDEX, *shards]
    if CONFIG not in names or not {*weights} <= {*names}:
        raise InputError(
            f"has not the files {CONFIG} and {_WHOLE}",
            where=where,
            hint="pickle (.bin, .pt) is not read; `save_pretrained` of transformers writes both",
        )
    return [*(name for name in _CONFIGS if name in names), *weights]


def _hub() -> str:
    address = (os.environ.get(_ADDRESS) or _HUB).rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise InputError(f"not an http address: {address!r}", where=_ADDRESS)
    return address


def _refused(error: urllib.error.HTTPError, url: str) -> Exception:
    if error.code in (401, 403, 404):
        what = f"the hub has no such model or commit for you ({error.code} {error.reason})"
        return InputError(what, where=url, hint=f"check the name; a private one needs {_TOKEN}")
    return UnavailableError(f"the server answers {error.code} {error.reason}", where=url)


def _licence(listing: dict[str, Any]) -> str:
    """The licence that a model's card names, by its SPDX name where it is one."""
    from cyclonedx import spdx

    card = listing.get("cardData")
    text = card.get("license") if isinstance(card, dict) else None
    return (spdx.fixup_id(text) or text) if isinstance(text, str) else UNKNOWN


def _behind(progress: Progress | None, done: int, total: int) -> Progress | None:
    """Progress with one file as progress with all."""
    return (lambda more, _: progress(done + more, total)) if progress else None
