"""A source of annotations: its files, how names in it find their photos, and what was used.

Names in annotation files rarely are paths that exist: tools leave folders out, write the path of
another machine, use backslashes or another Unicode form. A photo is found by its path, else by its
base name where only one file has it, and never outside the source's folder.
"""

from __future__ import annotations

import os
import posixpath
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from components.core.errors import InputError
from components.core.files import inside, parse_json
from components.core.images import SUFFIXES
from components.ingest.formats.record import Left

# Folders that only mean 'the photos are in here', as annotation tools and data sets name them.
PHOTO_FOLDERS = ("photos", "images", "data", "JPEGImages", "img")
_ANNOTATION_FOLDERS = ("annotations", "labels", "ann")
_SYSTEM_NAMES = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


class Found(NamedTuple):
    """Where a name led: the file, or why there is none; a note if the name is not its path."""

    file: Path | None
    problem: str | None = None
    note: str | None = None


class Source:
    """A folder of photos and annotations, or one annotation file whose folder is searched.

    Attributes:
        path: as given.
        root: the folder that nothing is read outside of.
        left: files and rows that a reader leaves out; it appends to it.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise InputError("no such file or folder", where=str(path))
        self.path, self.root = path, path
        if not path.is_dir():
            folder = path.parent
            in_annotations = folder.name.lower() in _ANNOTATION_FOLDERS
            self.root = folder.parent if in_annotations else folder
        self.left: list[Left] = []
        self._used: set[str] = set()

    @cached_property
    def names(self) -> list[str]:
        """The paths of all files below the root, `/` between their parts, in order.

        Links to folders are not followed; a link to a file outside the root is not listed.
        """
        return sorted(self._walk(self.root, ""))

    def _walk(self, folder: Path, prefix: str) -> Iterator[str]:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    yield from self._walk(Path(entry.path), f"{name}/")
                elif entry.is_symlink():
                    if self._stays(name):
                        yield name
                    else:
                        self.left.append(Left(name, "a link out of the folder"))
                elif entry.is_file():
                    yield name

    def _stays(self, name: str) -> bool:
        """Whether a link leads to a file below the root."""
        try:
            return inside(self.root, name).is_file()
        except InputError:
            return False

    def files(self, *suffixes: str) -> list[Path]:
        """The annotation files with one of these suffixes (lower case), hidden ones left out.

        If the source is one file, only that one.
        """
        if not self.path.is_dir():
            return [self.path] if self.path.suffix.lower() in suffixes else []
        return [
            self.root / name
            for name in self.names
            if name.lower().endswith(suffixes) and not hidden(name)
        ]

    def photos(self, folder: str = "") -> list[Path]:
        """The files below a folder of the root whose suffix is that of a photo, hidden ones not."""
        prefix = f"{folder}/" if folder else ""
        return [
            self.root / name
            for name in self.names
            if name.startswith(prefix) and _suffix(name) in SUFFIXES and not hidden(name)
        ]

    def relative(self, file: Path) -> str:
        """A file's path below the root, `/` between its parts."""
        return file.relative_to(self.root).as_posix()

    def use(self, file: Path) -> None:
        """Note that a file was read, so that it is not reported as left out."""
        if file.is_relative_to(self.root):
            self._used.add(self.relative(file))

    def unused(self) -> list[str]:
        """The files that no reader has used; those beside a single annotation file are not."""
        return [name for name in self.names if name not in self._used] if self.path.is_dir() else []

    def text(self, file: Path) -> str:
        """An annotation file's text: UTF-8, or UTF-16 with a byte order mark; raises InputError."""
        return read_text(file)

    def json(self, file: Path) -> Any:
        """An annotation file's JSON, read once for all readers; raises InputError."""
        if file not in self._documents:
            self._documents[file] = parse_json(self.text(file), str(file))
        return self._documents[file]

    @cached_property
    def _documents(self) -> dict[Path, Any]:
        return {}

    @cached_property
    def _by_name(self) -> dict[str, str]:
        """Files by their whole path in one Unicode form."""
        return {form(name): name for name in self.names}

    @cached_property
    def _by_base(self) -> dict[str, list[str]]:
        """Photos by their base name in one Unicode form."""
        return self._grouped(lambda path: path.name)

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        """Photos by their base name without the suffix."""
        return self._grouped(lambda path: path.stem)

    def _grouped(self, key: Any) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in self.names:
            if _suffix(name) in SUFFIXES and not hidden(name):
                found.setdefault(key(PurePosixPath(form(name))), []).append(name)
        return found

    def find(self, name: str, beside: Path | None = None, prefer: Iterable[str] = ()) -> Found:
        """The photo (or mask) that an annotation file names.

        Args:
            name: as written there; it may come from another machine or have no suffix.
            beside: the annotation file.
            prefer: names of folders (a subset, a split) that decide between equal base names.
        """
        wanted = form(posixpath.normpath(name.strip().replace("\\", "/")))
        if PurePosixPath(wanted).name in ("", ".", ".."):
            return Found(None, f"{name!r} names no file")
        folders = self._places(beside)
        for folder in folders:
            if found := self._by_name.get(form(posixpath.normpath(f"{folder}/{wanted}"))):
                return Found(self.root / found)
        return self._by_end(wanted, set(prefer))

    def _places(self, beside: Path | None) -> list[str]:
        """The folders, below the root, in which a name may be a path."""
        bases = ["."] if beside is None else [self.relative(beside.parent), "."]
        return [
            place for base in dict.fromkeys(bases) for place in (base, *_below(base, PHOTO_FOLDERS))
        ]

    def _by_end(self, wanted: str, prefer: set[str]) -> Found:
        """The one photo whose path ends most alike."""
        parts = PurePosixPath(wanted)
        alike = self._by_base.get(parts.name, [])
        if not alike and parts.suffix.lower() not in SUFFIXES:
            alike = self._by_stem.get(parts.name, [])
        for narrower in (
            lambda name: form(name).endswith(f"/{wanted}"),
            lambda name: not prefer.isdisjoint(name.split("/")),
        ):
            if len(alike) > 1:
                alike = [name for name in alike if narrower(name)] or alike
        if not alike:
            return Found(None, "no such file in the source")
        if len(alike) > 1:
            return Found(None, f"could be any of {len(alike)} files: {', '.join(alike[:3])}")
        return Found(self.root / alike[0], note=f"found by its base name: {alike[0]}")


def _below(base: str, folders: Iterable[str]) -> list[str]:
    return [f"{base}/{folder}" for folder in folders]


def form(name: str) -> str:
    """A name in one Unicode form: macOS stores names decomposed, most tools write them composed."""
    return unicodedata.normalize("NFC", name)


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def hidden(name: str) -> bool:
    """Whether an operating system or a tool keeps this path for itself."""
    parts = name.split("/")
    return any(part.startswith(".") or part.lower() in _SYSTEM_NAMES for part in parts)


def read_text(file: Path) -> str:
    """Text of any tool: UTF-8 with or without a byte order mark, UTF-16 with one.

    Raises:
        InputError: no such file, or another encoding.
    """
    try:
        data = file.read_bytes()
        utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        return data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"not UTF-8 ({error})"
        raise InputError(what, where=str(file), hint="save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=str(file)) from None


def target(name: str) -> str:
    """A photo's path in the data set: that below the root, less a first folder that only means so.

    `images/a.jpg` is `a.jpg`, `val2017/a.jpg` stays.
    """
    first, slash, rest = name.partition("/")
    return rest if slash and first in PHOTO_FOLDERS else name
