"""Data sets that stay in S3: their `.dvc` files name objects by version, and no remote copies them.

`dvc import-url --version-aware s3://bucket/prefix data/NAME` makes such a file, `dvc pull` fetches
what it names, `dvc update` names the newest versions. S3's address and keys are those of DVC.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from components.core.errors import InputError, UnavailableError, brief

_UNFIXED = (None, "null")  # of an object written while its bucket kept no versions
_ODD = (KeyError, TypeError, AttributeError, IndexError, ValueError)
# Of DVC's file system, which a stranger's record may set: no files here that say what to run.
_OPTIONS = ("version_aware", "endpointurl", "region", "profile", "allow_anonymous_login")
_KEYS = "check AWS_ENDPOINT_URL, AWS_PROFILE and the keys"


@dataclass(frozen=True)
class Import:
    """Objects below `url`.

    Attributes:
        url: `s3://bucket/prefix`, or `remote://NAME/prefix` of DVC's settings.
        options: of DVC's file system, those of `_OPTIONS`.
        versions: version id by path below `url`.
        listing: MD5 of the listing of all files, which the DVC remote has; empty before a download.
    """

    url: str
    options: Mapping[str, Any]
    versions: Mapping[str, str | None]
    listing: str

    def check(self, where: str) -> None:
        """Raises InputError where `where`, its file, does not fix every byte."""
        unfixed = [path for path, version in self.versions.items() if version in _UNFIXED]
        # DVC makes an address of key and version in which these two end the key.
        odd = [path for path in self.versions if set(path) & set("#?")]
        if unfixed:
            what = f"{self.url}/{unfixed[0]} has no version, so it can be overwritten"
            hint = "turn the bucket's versioning on, copy the objects onto themselves"
        elif odd:
            what, hint = f"DVC cannot fetch {odd[0]!r} by version", "rename it (no # and ?)"
        elif not self.listing:
            what, hint = "its photos were never fetched, so their hashes are unknown", ""
        else:
            return
        raise InputError(what, where=where, hint=f"{hint}, then `dvc update {where}`".strip(", "))

    def read(self, path: str) -> bytes | None:
        """An object's bytes, unchecked; None where the bucket has its version no longer.

        Raises UnavailableError where the bucket does not answer, or refuses.
        """
        with self._answering(), suppress(FileNotFoundError):
            (fs, root), version = self._bucket, self.versions[path]
            # One request; in parts it would first ask for the size, of the newest version.
            data: bytes = fs.cat_file(f"{root}/{path}", version_id=version, max_concurrency=1)
            return data
        return None

    def gone(self) -> list[str]:
        """Paths whose version the bucket has no longer, by one listing; raises as `read` does."""
        there: set[str] = set()
        with self._answering():
            fs, root = self._bucket
            bucket, _, prefix = f"{root}/".partition("/")
            after: dict[str, str] = {}
            while True:
                page = fs.call_s3("list_object_versions", Bucket=bucket, Prefix=prefix, **after)
                for row in page.get("Versions", []):
                    path = row["Key"].removeprefix(prefix)
                    if self.versions.get(path) == row["VersionId"]:
                        there.add(path)
                if not page.get("IsTruncated"):
                    return sorted(self.versions.keys() - there)
                markers = ("KeyMarker", "VersionIdMarker")
                after = {name: page[f"Next{name}"] for name in markers}

    def named(self, path: str) -> str:
        """An object for people."""
        return f"{self.url}/{path}, version {self.versions[path]}"

    @cached_property
    def _bucket(self) -> tuple[Any, str]:
        """s3fs as DVC sets it up, and `bucket/prefix`."""
        from dvc.config import Config
        from dvc.exceptions import DvcException
        from dvc.fs import get_cloud_fs
        from dvc.repo import Repo

        try:
            kind, settings, root = get_cloud_fs(
                Config(Repo.find_dvc_dir()), url=self.url, **self.options
            )
        except DvcException as error:
            raise InputError(brief(error), where=self.url) from None
        if kind.protocol != "s3":
            raise InputError("is not in S3", where=self.url)
        return kind(**settings).fs, root.strip("/")

    @contextmanager
    def _answering(self) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError

        try:
            yield
        except (OSError, BotoCoreError) as error:
            raise UnavailableError(brief(error), where=self.url, hint=_KEYS) from None


def read(path: Path) -> Any:
    """A `.dvc` file parsed; None where there is none; raises InputError for no YAML."""
    try:
        # Several times as fast as `safe_load`; too much nesting would end the process, so it is
        # for the workspace's own files.
        return yaml.CSafeLoader(path.read_text(encoding="utf-8")).get_single_data()
    except FileNotFoundError:
        return None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"not valid YAML ({brief(error)})", where=str(path)) from None


def of(tracked: Any) -> Import | None:
    """What a parsed `.dvc` file, also a stranger's, imports by version; None for any other."""
    with suppress(*_ODD):
        dep, out = tracked["deps"][0], tracked["outs"][0]
        versions = {str(row["relpath"]): row.get("version_id") for row in dep["files"]}
        given = dep.get("fs_config") or {}
        options = {name: given[name] for name in _OPTIONS if name in given}
        listing = str(out.get("md5") or "")
        return Import(str(dep["path"]).rstrip("/"), options, versions, listing)
    return None
