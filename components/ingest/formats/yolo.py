"""YOLO: a text file of labels per photo, as Ultralytics, Darknet, Roboflow and CVAT lay them out.

A line is a class and numbers relative to the upright photo: centre and sides of a box (detect), or
the corners of an outline (segment) or of a turned box (OBB). `data.yaml` or `obj.data` names the
classes and the photos of each split; without one, all photos are read. A photo whose label file is
empty or missing is authentic.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import yaml

from components.core.errors import InputError
from components.ingest.formats import regions
from components.ingest.formats.record import (
    SPLIT_NAMES,
    Box,
    Reading,
    Record,
    RowError,
    split_named,
)
from components.ingest.formats.shapes import Measure, Photo, Shape, reading, record
from components.ingest.formats.source import Source, in_one_form, plain_path, target

_SPLITS = ("train", "val", "valid", "test")
_CLASSES = ("obj.names", "classes.txt", "predefined_classes.txt")
_ROUNDING = 1e-3  # of a share of the photo


class _Settings(NamedTuple):
    """What `data.yaml`, `obj.data` or `classes.txt` say."""

    file: Path | None
    names: dict[int, str]  # of the classes; empty if nothing tells
    entries: list[tuple[str, str]]  # split, and a folder of its photos or a list of them
    keypoints: bool  # whether a box is followed by them


def matches(source: Source) -> bool:
    """Whether there are settings of YOLO, or labels for a photo."""
    return _settings(source) is not None or any(
        _is_label(source, file) and source.alike(file.stem) for file in source.sample(".txt")
    )


def _settings(source: Source) -> tuple[Path, dict[str, Any]] | None:
    """The file of settings, and what it holds."""
    for file in source.sample(".yaml", ".yml", ".data"):
        with suppress(InputError, yaml.YAMLError, RecursionError, ValueError):
            text = source.text(file)
            if file.suffix.lower() == ".data":
                pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
                found = {key.strip(): value.strip() for key, value in pairs}
            else:
                found = yaml.safe_load(text)
            if isinstance(found, dict) and "names" in found and found.keys() & {*_SPLITS, "nc"}:
                return file, found
    return None


def _is_label(source: Source, file: Path) -> bool:
    """Whether a text file's first line is a label."""
    try:
        first = source.text(file).lstrip().partition("\n")[0].split()
        return len(first) >= 5 and bool([regions.numeric("", word) for word in first])
    except InputError:
        return False


def read(source: Source) -> Reading:
    """All photos that the settings name, or all there are.

    Raises:
        InputError: a list of photos that cannot be read.
    """
    settings = _read_settings(source)
    labels = _Labels(source)
    listed, notes = _photos(source, settings)
    if len(set(listed.values()) - {None}) < 2:  # one alone is no split
        listed = dict.fromkeys(listed)
    records = _renamed(
        source, [_record(source, settings, labels, name, split) for name, split in listed.items()]
    )
    for file in source.files(".txt"):
        if source.relative(file) in labels.unused and _is_label(source, file):
            source.leave(file, "labels without a photo of that name")
    return reading(records, *notes)


def _renamed(source: Source, records: list[Record]) -> list[Record]:
    """Photos named without the folder of their split, if that still names each of them once."""
    names = [_below_split(source.relative(record.photo)) for record in records]
    if len(set(names)) < len(names):
        return records
    return [replace(record, name=name) for record, name in zip(records, names, strict=True)]


def _below_split(name: str) -> str:
    """`a/b.jpg` of `images/train/a/b.jpg` and of `train/images/a/b.jpg`."""
    first, _, rest = target(name).partition("/")
    if not rest or first not in SPLIT_NAMES:
        return target(name)
    return target(rest) if name.startswith(f"{first}/") else rest


def _read_settings(source: Source) -> _Settings:
    found = _settings(source)
    file, values = found or (None, {})
    if file:
        source.use(file)
    names = values.get("names")
    if not isinstance(names, list | dict):
        names = _listed_names(source)
    pairs = names.items() if isinstance(names, dict) else enumerate(names)
    classes = {
        int(key): name if isinstance(name, str) else ""
        for key, name in pairs
        if type(key) is int or (isinstance(key, str) and key.isdecimal() and len(key) < 9)
    }
    base = values.get("path") if isinstance(values.get("path"), str) else ""
    entries = []
    for key in _SPLITS:
        value = values.get(key)
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, str) and entry:
                entries.append((SPLIT_NAMES[key], f"{base}/{entry}" if base else entry))
    return _Settings(file, classes, entries, "kpt_shape" in values)


def _listed_names(source: Source) -> list[str]:
    """The names of the classes in a file with one a line."""
    for name in source.names:
        if PurePosixPath(name).name in _CLASSES:
            source.use(source.root / name)
            return [line.strip() for line in source.text(source.root / name).splitlines()]
    return []


def _photos(source: Source, settings: _Settings) -> tuple[dict[str, str | None], list[str]]:
    """The photos to read, by their path or as a list names them, with their splits; and notes."""
    found: dict[str, str | None] = {}
    notes = []
    photos = [source.relative(photo) for photo in source.photos()]
    known = set(source.names)
    for split, entry in settings.entries:
        folder = _tail(source, settings.file, entry, source.folders)
        listing = folder is None and _tail(source, settings.file, entry, known, fewest=1)
        if folder is not None:
            prefix = "" if folder == "." else f"{folder}/"
            names = [name for name in photos if in_one_form(name).startswith(prefix)]
        elif listing:
            source.use(source.root / listing)
            lines = map(str.strip, source.text(source.root / listing).splitlines())
            names = [
                _tail(source, source.root / listing, line, known) or line for line in lines if line
            ]
        else:
            notes.append(f"{settings.file and settings.file.name}: {entry} is not there")
            continue
        if names and all(name in found for name in names):
            notes.append(f"the photos of {split} are those of another split")
        for name in names:
            found.setdefault(name, split)
    if not settings.entries or not found:
        found = {name: _split_of(name) for name in photos}
    return found, notes


def _tail(
    source: Source, beside: Path | None, entry: str, known: Container[str], fewest: int = 2
) -> str | None:
    """The end of a path, of so many parts, that is known below the root.

    The rest is another machine's; what is written shorter or from the root of that is known whole.
    """
    folder = source.relative(beside.parent) if beside else "."
    absolute = entry.startswith("/") or entry[1:2] == ":"
    written = len(PurePosixPath(plain_path(entry)).parts)
    parts = PurePosixPath(in_one_form(plain_path(f"{folder}/{entry}"))).parts
    if not parts:
        return "."
    fewest = 1 if absolute else min(fewest, written)
    for start in range(len(parts) - fewest + 1):
        if (tail := "/".join(parts[start:])) in known:
            return tail
    return None


def _split_of(name: str) -> str | None:
    """The split that a photo's folders mean."""
    return next(filter(None, map(split_named, name.split("/")[:-1])), None)


class _Labels:
    """The label files by where their photo may be."""

    def __init__(self, source: Source) -> None:
        self._source = source
        # Not `source.files`: beside a single file of settings lie the labels as well.
        names = [name for name in source.names if name.lower().endswith(".txt")]
        self._by_path = {in_one_form(name)[:-4]: name for name in names}
        self._by_stem: dict[str, list[str]] = {}
        for name in names:
            stem = PurePosixPath(in_one_form(name)).stem.casefold()
            self._by_stem.setdefault(stem, []).append(name)
        self.unused = set(names)
        self.photos: dict[Path, str] = {}  # the first one that a file was read for

    def of(self, photo: str) -> Path | None:
        """The label file of a photo, by its path below the root."""
        path = PurePosixPath(in_one_form(photo)).with_suffix("")
        parts = list(path.parts)
        places = [str(path)]
        for place in range(len(parts) - 1):
            if parts[place] in ("images", "JPEGImages"):
                places.insert(0, "/".join([*parts[:place], "labels", *parts[place + 1 :]]))
        found = next((self._by_path[one] for one in places if one in self._by_path), None)
        alone = self._by_stem.get(path.name.casefold(), [])
        if found is None and len(alone) == 1 and path.name not in SPLIT_NAMES:
            # Elsewhere, if no other photo can be meant.
            found = alone[0] if len(self._source.alike(path.name)) == 1 else None
        if found is None:
            return None
        self.unused.discard(found)
        return self._source.root / found


def _record(
    source: Source, settings: _Settings, labels: _Labels, name: str, split: str | None
) -> Record:
    """One photo with its labels."""
    photo = Photo((name,), source.root / "labels", split=split)
    found = source.find(name).file
    label = labels.of(source.relative(found)) if found else None
    if label is None:
        return record(source, photo, lambda size: ())
    source.use(label)
    made = record(source, photo, lambda size: _shapes(source, settings, label, size))
    if (other := labels.photos.setdefault(label, name)) != name:
        return replace(made, notes=(*made.notes, f"its labels are also those of {other}"))
    return made


def _shapes(source: Source, settings: _Settings, label: Path, size: Measure) -> Iterator[Shape]:
    where = source.relative(label)
    try:
        lines = source.text(label).splitlines()
    except InputError as error:
        raise RowError(f"{where}: {error.what}") from None
    for number, line in enumerate(lines, start=1):
        try:
            if words := line.split():
                yield _shape(settings, [regions.numeric("a value", word) for word in words], size)
        except RowError as error:
            raise RowError(f"{where}, line {number}: {error.what}") from None


def _shape(settings: _Settings, values: list[float], size: Measure) -> Shape:
    """One line: class, then a box, or the corners of an outline; then perhaps a confidence."""
    kind, *shares = values
    if kind < 0 or kind != int(kind) or (settings.names and int(kind) not in settings.names):
        raise RowError(f"unknown class {kind:g}")
    ignored = None
    if len(shares) > 4 and (settings.keypoints or _are_keypoints(shares[4:])):
        shares, ignored = shares[:4], "its keypoints are ignored"
    elif len(shares) >= 5 and len(shares) % 2:
        *shares, confidence = shares
        if not 0 <= confidence <= 1:
            raise RowError(f"{len(values)} values, of which the last is no confidence")
        ignored = f"its confidence of {confidence:g} is ignored"
    if len(shares) < 4:
        raise RowError(f"{len(values)} values are neither a box nor an outline")
    for share in shares:
        if not -_ROUNDING <= share <= 1 + _ROUNDING:
            raise RowError(f"{share:g} is not between 0 and 1")
    box = _box(shares, *size())
    return Shape(regions.noted(box, ignored) if ignored else box, settings.names.get(int(kind), ""))


def _are_keypoints(values: list[float]) -> bool:
    """Whether these are points, each with whether it can be seen (0, 1 or 2), and no outline."""
    seen = values[2::3]
    # Of a few corners at an edge as many values may happen to be 0 or 1.
    return len(values) % 3 == 0 and len(seen) > 2 and all(value in (0, 1, 2) for value in seen)


def _box(shares: list[float], width: int, height: int) -> Box:
    """A box in pixels, from its centre and sides or from an outline."""
    if len(shares) > 4:
        pixels = [share * (height if place % 2 else width) for place, share in enumerate(shares)]
        return regions.boxed([regions.ring(pixels)], (width, height))
    x, y, w, h = shares
    x0, y0, x1, y1 = map(_rounded, (x - w / 2, y - h / 2, x + w / 2, y + h / 2))
    return Box(x0 * width, y0 * height, (x1 - x0) * width, (y1 - y0) * height)


def _rounded(share: float) -> float:
    """An edge on the photo's own where only rounding parts them."""
    edge = min(max(share, 0.0), 1.0)
    return edge if abs(share - edge) <= _ROUNDING else share
