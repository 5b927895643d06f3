"""Folder pairs: `Tp/` or `Sp/` (manipulated), `Gt/` (masks), `Au/` (authentic), `split.csv`.

A photo and its mask are paired by name - `Gt/NAME_gt.png`, else `Gt/NAME.png` - never by their
place in a sorted list: one missing file would shift every later pair. `split.csv` (columns
`split,image` and optionally `mask`, paths below the folder) is the list of photos where it exists.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from components.core.errors import InputError
from components.core.images import SUFFIXES
from components.data.dataset import Inside, unique
from components.data.manifest import AUTHENTIC, MANIPULATED
from components.ingest.formats import casia
from components.ingest.formats.record import SPLIT_NAMES, Reading, Record
from components.ingest.formats.source import Source

_MANIPULATED, _AUTHENTIC, _MASKS = ("tp", "sp"), ("au",), ("gt", "groundtruth")
_SPLITS = "split.csv"


def matches(source: Source) -> bool:
    """Whether this looks like folder pairs."""
    return source.path.is_dir() and bool(_folders(source.path, (*_MANIPULATED, *_AUTHENTIC)))


def read(source: Source) -> Reading:
    """All photos of the folders, or those that `split.csv` lists.

    Raises:
        InputError: a malformed `split.csv`, or manipulated photos without any mask.
    """
    masks = _masks(source.path)
    # An empty Sp/ or Gt/ beside authentic photos is no mistake.
    if not masks and any(any(_photos(folder)) for folder in _folders(source.path, _MANIPULATED)):
        raise InputError(
            "manipulated photos but no masks",
            where=str(source.path),
            hint="put the mask of Tp/NAME.jpg at Gt/NAME_gt.png or Gt/NAME.png",
        )
    if not (source.path / _SPLITS).is_file():
        return Reading(list(_from_folders(source.path, masks)))
    return Reading(_from_list(source.path, masks))


def _folders(source: Path, names: tuple[str, ...]) -> list[Path]:
    """The sub-folders with one of these names, in any case."""
    return sorted(p for p in source.iterdir() if p.name.lower() in names and p.is_dir())


def _photos(folder: Path) -> Iterator[Path]:
    """The image files below a folder, by suffix; hidden files are not photos."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            yield path


def _key(path: Path, folder: Path) -> str:
    """A file's path below its folder without the suffix: what photo and mask share."""
    return path.relative_to(folder).with_suffix("").as_posix()


def _masks(source: Path) -> dict[str, Path]:
    """Masks by the key of their photo; raises InputError when two claim one photo."""
    found: dict[str, Path] = {}
    for folder in _folders(source, _MASKS):
        for path in _photos(folder):
            key = _key(path, folder)
            key = key[:-3] if key.lower().endswith("_gt") else key
            if key in found:
                raise InputError(
                    f"{found[key].name} and {path.name} are both masks of {key}",
                    where=str(folder),
                    hint="keep one of them",
                )
            found[key] = path
    return found


def _record(source: Path, photo: Path, mask: Path | None, split: str | None) -> Record:
    """One photo; its label is its folder's."""
    name = photo.relative_to(source).as_posix()
    manipulated = name.split("/", 1)[0].lower() in _MANIPULATED
    return Record(
        photo=photo,
        name=name,
        label=MANIPULATED if manipulated else AUTHENTIC,
        mask=mask if manipulated else None,
        split=split,
        origins=casia.origins(photo.stem),
        kind=casia.kind(photo.stem),
        problem="no mask of that name in Gt/" if manipulated and mask is None else None,
    )


def _from_folders(source: Path, masks: dict[str, Path]) -> Iterator[Record]:
    """Every photo below the folders, and every mask without a photo."""
    left = dict(masks)
    for folder in _folders(source, (*_MANIPULATED, *_AUTHENTIC)):
        manipulated = folder.name.lower() in _MANIPULATED
        for photo in _photos(folder):
            key = _key(photo, folder)
            if manipulated:
                left.pop(key, None)
            yield _record(source, photo, masks.get(key), None)
    for path in left.values():
        name = path.relative_to(source).as_posix()
        yield Record(path, name, MANIPULATED, problem="mask without a photo of that name")


def _from_list(source: Path, masks: dict[str, Path]) -> list[Record]:
    """The photos of `split.csv`; those in the folders that it does not list become problems."""
    where = str(source / _SPLITS)
    check, records = Inside(source), []
    for line, row in enumerate(_rows(source / _SPLITS), start=2):
        split = SPLIT_NAMES.get((row["split"] or "").strip().lower())
        if split is None:
            raise InputError(
                f"line {line}: split {row['split']!r} is not train, val or test", where=where
            )
        photo = check(row["image"] or "")
        folder, _, rest = (row["image"] or "").partition("/")
        if folder.lower() not in (*_MANIPULATED, *_AUTHENTIC):
            raise InputError(f"line {line}: {row['image']!r} is not in Tp, Sp or Au", where=where)
        named = row.get("mask")
        mask = check(named) if named else masks.get(Path(rest).with_suffix("").as_posix())
        records.append(_record(source, photo, mask, split))
    unique("image", (record.name for record in records), where)
    listed = {record.name for record in records}
    for record in _from_folders(source, masks):
        if record.name not in listed and record.photo not in masks.values():
            records.append(Record(record.photo, record.name, record.label, problem="not listed"))
    return records


def _rows(path: Path) -> list[dict[str, str | None]]:
    """The rows of split.csv; raises InputError when a column is missing."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"not a CSV file ({error})", where=str(path)) from None
    if not {"split", "image"} <= set(reader.fieldnames or ()):
        raise InputError("needs the columns split,image (and mask)", where=str(path))
    return rows
