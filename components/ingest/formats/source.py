"""A source of annotations: its files, how names in it find their photos, and what was used.

Names in annotation files rarely are paths that exist: tools leave folders out, write the path of
another machine, use backslashes or another Unicode form. A photo is found by its path, else by its
base name where only one file has it, and never outside the source's folder.
"""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

from components.core.errors import InputError
from components.core.files import inside, parse_json
from components.core.images import MAX_MEGAPIXELS, SUFFIXES, image_size, read_bytes
from components.ingest.formats.record import Left

# Folders that only mean 'the photos are in here', as annotation tools and data sets name them.
PHOTO_FOLDERS = ("photos", "images", "data", "JPEGImages", "img")
# Pascal VOC's masks are called as its photos are.
_MASK_FOLDERS = frozenset({"SegmentationClass", "SegmentationObject"})
_ANNOTATION_FOLDERS = ("annotations", "labels", "ann")
_SYSTEM_NAMES = frozenset({
    "thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "system volume information",
})  # fmt: skip
_ADDRESS = frozenset("%?:")
_PREFIX = re.compile(r"^[0-9a-f]{8}-(?=.)")  # Label Studio's own, before the name of an upload
_ENCODING = re.compile(rb"^\s*<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"']")
# Of how many annotation files a format is told: in one folder, and in all.
_LOOKED_AT, _LOOKED_AT_IN_ALL = 16, 64


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
        return sorted(self._walk())

    def _walk(self) -> Iterator[str]:
        folders = [""]
        while folders:
            prefix = folders.pop()
            try:
                entries = list(os.scandir(self.root / prefix))
            except OSError as error:
                why = f"cannot be read ({error.strerror})"
                if not prefix:
                    raise InputError(why, where=str(self.root)) from None
                self.left.append(Left(prefix, f"a folder that {why}"))
                continue
            for entry in entries:
                name = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{name}/")
                elif entry.is_symlink() and not self._stays(name):
                    inner = "out of the folder" if os.path.exists(entry.path) else "to nothing"
                    why = "to a folder" if os.path.isdir(entry.path) else inner
                    self.left.append(Left(name, f"a link {why}"))
                elif entry.is_file():
                    yield name
                else:
                    self.left.append(Left(name, "neither a file nor a folder"))

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
        names = sorted(name for suffix in suffixes for name in self._by_suffix.get(suffix, ()))
        return [self.root / name for name in names]

    @cached_property
    def _by_suffix(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in self._visible:
            found.setdefault(_suffix(name), []).append(name)
        return found

    @cached_property
    def _visible(self) -> list[str]:
        return [name for name in self.names if not hidden(name)]

    def sample(self, *suffixes: str) -> list[Path]:
        """Some of `files`, those nearest to the root first: enough to tell the format."""
        counts: Counter[Path] = Counter()
        files = sorted(self.files(*suffixes), key=lambda file: len(file.parts))
        found = []
        for file in files:
            counts[file.parent] += 1
            if counts[file.parent] <= _LOOKED_AT:
                found.append(file)
        return found[:_LOOKED_AT_IN_ALL]

    def documents(self) -> Iterator[tuple[Path, Any]]:
        """What the sampled JSON and XML files hold; those that cannot be read are left out."""
        for suffix, parse in ((".json", self.json), (".xml", self.xml)):
            for file in self.sample(suffix):
                try:
                    yield file, parse(file)
                except InputError:
                    continue

    def photos(self, folder: str = "") -> list[Path]:
        """The files below a folder of the root whose suffix is that of a photo, hidden ones not."""
        prefix = f"{folder}/" if folder else ""
        return [
            self.root / name
            for name in self._visible
            if name.startswith(prefix) and _suffix(name) in SUFFIXES
        ]

    def relative(self, file: Path) -> str:
        """A file's path below the root, `/` between its parts."""
        path = str(file)  # `relative_to` is slow for 100,000 photos
        if os.sep == "/" and path != "." and path.startswith(self._prefix):
            return path[len(self._prefix) :]
        return file.relative_to(self.root).as_posix()

    @cached_property
    def _prefix(self) -> str:
        return "" if self.root == Path() else f"{self.root}/"

    def use(self, file: Path) -> None:
        """Note that a file was read, so that it is not reported as left out."""
        self._used.add(str(file))

    def leave(self, file: Path, reason: str) -> None:
        """Report a file as left out."""
        self.use(file)
        self.left.append(Left(self.relative(file), reason))

    def unused(self) -> list[str]:
        """The files that no reader has used; those beside a single annotation file are not."""
        if not self.path.is_dir():
            return []
        return [name for name in self.names if self._prefix + name not in self._used]

    def text(self, file: Path) -> str:
        """An annotation file's text: UTF-8, or UTF-16 with a byte order mark; raises InputError."""
        return read_text(file)

    def json(self, file: Path) -> Any:
        """An annotation file's JSON, read once for all readers; raises InputError."""
        return self._parsed(file, lambda: parse_json(self.text(file), str(file)))

    def xml(self, file: Path) -> ElementTree.Element:
        """An XML file's root element, read once; raises InputError, for a document type too."""
        element: ElementTree.Element = self._parsed(file, lambda: read_xml(file))
        return element

    def _parsed(self, file: Path, parse: Callable[[], Any]) -> Any:
        """A document, or why there is none; only as many are kept as tell the format."""
        document = self._documents.get(file)
        if document is None:
            try:
                document = parse()
            except InputError as error:
                document = error
            if len(self._documents) < 2 * _LOOKED_AT_IN_ALL:
                self._documents[file] = document
        if isinstance(document, InputError):
            raise document
        return document

    @cached_property
    def _documents(self) -> dict[Path, Any]:
        return {}

    def size(self, photo: Path) -> tuple[int, int]:
        """(width, height) of an upright photo, from its header; raises PhotoError."""
        if photo not in self._sizes:
            limit = 4 * MAX_MEGAPIXELS  # the import has its own
            self._sizes[photo] = image_size(read_bytes(photo, limit), str(photo), limit)
        return self._sizes[photo]

    @cached_property
    def _sizes(self) -> dict[Path, tuple[int, int]]:
        return {}

    @cached_property
    def _by_name(self) -> dict[str, str]:
        """Files by their whole path in one Unicode form."""
        return {in_one_form(name): name for name in self.names}

    @cached_property
    def folders(self) -> set[str]:
        """The paths of all folders below the root that hold files, `.` for the root."""
        direct = {posixpath.dirname(in_one_form(name)) or "." for name in self.names}
        above = {str(one) for folder in direct for one in PurePosixPath(folder).parents}
        return direct | above

    @cached_property
    def _by_base(self) -> dict[str, list[str]]:
        """Photos by their base name, in one Unicode form and case."""
        return self._grouped(lambda path: path.name)

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        """Photos by their base name without the suffix."""
        return self._grouped(lambda path: path.stem)

    def _grouped(self, key: Callable[[PurePosixPath], str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in self.names:
            path = PurePosixPath(in_one_form(name))
            usable = _suffix(name) in SUFFIXES and not hidden(name)
            if usable and _MASK_FOLDERS.isdisjoint(path.parts):
                found.setdefault(key(path).casefold(), []).append(name)
        return found

    def find(self, name: str, beside: Path | None = None, prefer: Iterable[str] = ()) -> Found:
        """The photo (or mask) that an annotation file names.

        Args:
            name: as written there; it may come from another machine or have no suffix.
            beside: the annotation file.
            prefer: names of folders (a subset, a split) that decide between equal base names.
        """
        read = readings(name)
        for one in read:
            if file := self._at(one, self._places(beside, tuple(prefer))):
                return Found(file)
        tries = [self._by_end(one, set(prefer)) for one in read]
        return next((found for found in tries if found.file), tries[0])

    def _at(self, name: str, places: list[str]) -> Path | None:
        """The file of this path; as written first: a colon or backslash may be part of a name."""
        for written in dict.fromkeys((in_one_form(name), in_one_form(plain_path(name)))):
            for folder in places if written else ():
                if found := self._by_name.get(written if folder == "." else f"{folder}/{written}"):
                    return self.root / found
        return None

    def _places(self, beside: Path | None, prefer: tuple[str, ...]) -> list[str]:
        """The folders, below the root, in which a name may be a path.

        The annotation file's, those above it, the folders of photos in them, and in these the
        preferred ones.
        """
        if (beside, prefer) not in self._known_places:
            folder = self.relative(beside.parent) if beside else "."
            start = PurePosixPath(in_one_form(folder))
            found = []
            for base in (start, *start.parents):
                for deep in ("", *PHOTO_FOLDERS):
                    found += [posixpath.normpath(f"{base}/{deep}/{end}") for end in ("", *prefer)]
            usable = [place for place in dict.fromkeys(found) if place in self.folders]
            self._known_places[beside, prefer] = usable
        return self._known_places[beside, prefer]

    @cached_property
    def _known_places(self) -> dict[tuple[Path | None, tuple[str, ...]], list[str]]:
        return {}

    def _by_end(self, name: str, prefer: set[str]) -> Found:
        """The one photo whose path ends most alike."""
        wanted = in_one_form(plain_path(name))
        if not wanted:
            return Found(None, f"{name!r} names no file")
        base = posixpath.basename(wanted)
        alike = self.alike(base) or self.alike(_PREFIX.sub("", base))
        if len(alike) > 1:  # the most parts in common at the end, then in a preferred folder
            likeness = {name: _likeness(in_one_form(name), wanted, prefer) for name in alike}
            alike = [name for name in alike if likeness[name] == max(likeness.values())]
        if not alike:
            return Found(None, "no such file")
        if len(alike) > 1:
            return Found(None, f"could be any of {len(alike)} files: {', '.join(alike[:3])}")
        return Found(self.root / alike[0], note=f"found by its base name: {alike[0]}")

    def alike(self, base: str) -> list[str]:
        """The photos with this base name in any case, or with this stem if it has no suffix."""
        alike = self._by_base.get(base.casefold(), [])
        if not alike and _suffix(base) not in SUFFIXES:
            alike = self._by_stem.get(base.casefold(), [])
        return alike


def _likeness(name: str, wanted: str, prefer: set[str]) -> tuple[int, bool]:
    pairs = zip(reversed(name.split("/")), reversed(wanted.split("/")), strict=False)
    common = list(takewhile(lambda pair: pair[0] == pair[1], pairs))
    return len(common), not prefer.isdisjoint(name.split("/")[:-1])


def readings(name: str) -> tuple[str, ...]:
    """What a name may mean: itself; the path in an address, also with its escapes resolved.

    Label Studio addresses local files as `/data/local-files/?d=PATH`.
    """
    if _ADDRESS.isdisjoint(name):
        return (name,)
    try:
        parts = urlsplit(name.strip())
        local = parse_qs(parts.query).get("d", [""])[0]
    except ValueError:
        return (name,)
    path = local or (parts.path if parts.scheme or parts.query else name)
    return tuple(dict.fromkeys(one for one in (name, path, unquote(path)) if one.strip("/. "))) or (
        name,
    )


def plain_path(name: str) -> str:
    """A path of any machine as one below a folder, `/` between its parts, without a drive."""
    path = re.sub(r"^[A-Za-z]:", "", name.strip().replace("\\", "/"))
    parts = posixpath.normpath(path).split("/")
    return "/".join(part for part in parts if part not in ("", "..", "."))


def in_one_form(name: str) -> str:
    """A name in one Unicode form: macOS stores names decomposed, most tools write them composed."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


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


def read_xml(file: Path) -> ElementTree.Element:
    """The root element; document types are refused before parsing.

    Entities can only be declared in a document type, which another encoding than the one looked at
    could hide; so the text is decoded here and parsed as text.

    Raises:
        InputError: no such file, a document type, or not XML.
    """
    try:
        data = file.read_bytes()
        declared = _ENCODING.match(data)
        text = data.decode(declared[1].decode()) if declared else read_text(file)
        text = text.removeprefix("\ufeff")
        if "\0" in text or "<!DOCTYPE" in text or "<!ENTITY" in text:
            what = "document types and entities are not accepted"
            raise InputError(what, where=str(file))
        return ElementTree.fromstring(text)  # noqa: S314 (no DOCTYPE, so no entities)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"not valid XML ({error})", where=str(file)) from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=str(file)) from None


def target(name: str) -> str:
    """A photo's path in the data set: that below the root, less a first folder that only means so.

    `images/a.jpg` is `a.jpg`, `val2017/a.jpg` stays.
    """
    first, slash, rest = name.partition("/")
    return rest if slash and first in PHOTO_FOLDERS else name
