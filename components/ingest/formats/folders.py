"""Folder pairs: `Tp/` or `Sp/` (manipulated), `Gt/` (masks), `Au/` (authentic), `split.csv`.

The folders may have the other names below, in any case, with spaces, dots, dashes or underscores;
masks may also be in a folder within that of the photos (Columbia: `4cam_splc/edgemask/`). A photo
and its mask are paired by name - `Gt/NAME.png`, `Gt/NAME_gt.png`, `Gt/NAME-mask.png` - never by
their place in a sorted list: one missing file would shift every later pair. `split.csv` (columns
`split,image` and optionally `mask`, paths below the folder) is the list of photos where it exists.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from components.core.errors import InputError
from components.core.files import printable
from components.core.images import SUFFIXES
from components.data.manifest import AUTHENTIC, MANIPULATED
from components.ingest.formats import casia
from components.ingest.formats.record import SPLIT_NAMES, Reading, Record
from components.ingest.formats.source import Found, Source, in_one_form

# Without spaces, dots, dashes and underscores.
_MANIPULATED = ("tp", "sp", "manipulated", "tampered", "forged", "spliced", "4camsplc")
_AUTHENTIC = ("au", "authentic", "original", "pristine", "4camauth")
_MASKS = (
    *("gt", "mask", "masks", "groundtruth", "edgemask"),
    *("casia1groundtruth", "casia10groundtruth", "casia2groundtruth", "casia20groundtruth"),
)
_MASK_SUFFIX = re.compile(r"[-_. ](gt|mask|edgemask|groundtruth)$", re.IGNORECASE)
_SPLITS = "split.csv"


def matches(source: Source) -> bool:
    """Whether this looks like folder pairs."""
    return source.path.is_dir() and bool(_folders(source, (*_MANIPULATED, *_AUTHENTIC)))


def read(source: Source) -> Reading:
    """All photos of the folders, or those that `split.csv` lists.

    Raises:
        InputError: a malformed `split.csv`, or manipulated photos without any mask.
    """
    masks = _masks(source)
    # An empty Sp/ or Gt/ beside authentic photos is no mistake.
    if not masks and any(_photos(source, folder) for folder in _folders(source, _MANIPULATED)):
        raise InputError(
            "manipulated photos but no masks",
            where=str(source.path),
            hint="put the mask of Tp/NAME.jpg at Gt/NAME_gt.png or Gt/NAME.png",
        )
    if _SPLITS not in source.names:
        return Reading(list(_from_folders(source, masks)))
    source.use(source.root / _SPLITS)
    return Reading(_from_list(source, masks))


def deeper(source: Source) -> Path | None:
    """The folder below the source that has folders of photos, if there is one."""
    found = {
        PurePosixPath(one).parent
        for one in source.folders
        if _is(PurePosixPath(one).name, _MANIPULATED)
    }
    return source.root / found.pop() if len(found) == 1 else None


def masks_beside(source: Source) -> list[Path]:
    """Files called as the masks of photos beside them: `a_mask.png` beside `a.jpg`."""
    names = {_key(source.relative(photo)): photo for photo in source.photos()}
    marked = {key: _MASK_SUFFIX.sub("", key) for key in names}
    return [names[key] for key, plain in marked.items() if plain != key and plain in names]


def unpaired_mask(source: Source) -> Path | None:
    """A file that is a mask by its name, where no folder tells which photos are manipulated."""
    within = (
        photo
        for photo in source.photos()
        if any(_is(part, _MASKS) for part in source.relative(photo).split("/")[:-1])
    )
    return next(iter(masks_beside(source)), None) or next(within, None)


def _is(folder: str, names: tuple[str, ...]) -> bool:
    return re.sub("[ ._-]", "", folder.lower()) in names


def _folders(source: Source, names: tuple[str, ...]) -> list[str]:
    """The sub-folders with one of these names, by what is in them."""
    first = dict.fromkeys(name.partition("/")[0] for name in source.names if "/" in name)
    return [folder for folder in first if _is(folder, names)]


def _mask_folders(source: Source) -> list[str]:
    """The folders of masks: beside those of photos, or within those of manipulated ones."""
    within = dict.fromkeys(
        f"{parts[0]}/{parts[1]}"
        for parts in (name.split("/", 2) for name in source.names)
        if len(parts) == 3 and _is(parts[0], _MANIPULATED) and _is(parts[1], _MASKS)
    )
    return [*_folders(source, _MASKS), *within]


def _photos(source: Source, folder: str) -> list[Path]:
    """The photos below a folder, masks in a folder of their own left out."""
    photos = source.photos(folder)
    return [photo for photo in photos if not _is(photo.relative_to(source.root).parts[1], _MASKS)]


def _key(file: str) -> str:
    """A file's path below its folder without the suffix: what photo and mask share.

    `a.jpg.png` is a mask of `a.jpg`.
    """
    path = PurePosixPath(in_one_form(file))
    while path.suffix.lower() in SUFFIXES:
        path = path.with_suffix("")
    return path.as_posix()


def _masks(source: Source) -> dict[str, Path]:
    """Masks by the key of their photo; raises InputError when two claim one photo."""
    found: dict[str, Path] = {}
    photos = {
        _key(source.relative(photo).removeprefix(f"{folder}/"))
        for folder in _folders(source, _MANIPULATED)
        for photo in _photos(source, folder)
    }
    for folder in _mask_folders(source):
        for path in source.photos(folder):
            name = source.relative(path).removeprefix(f"{folder}/")
            key = _key(name)
            if key not in photos:
                key = _key(_MASK_SUFFIX.sub("", key))
            if key in found:
                raise InputError(
                    f"{found[key].name} and {path.name} are both masks of {key}",
                    where=str(source.root / folder),
                    hint="keep one of them",
                )
            found[key] = path
    return found


def _record(source: Source, photo: Path, mask: Path | None, split: str | None) -> Record:
    """One photo; its label is its folder's."""
    name = source.relative(photo)
    manipulated = _is(name.partition("/")[0], _MANIPULATED)
    return Record(
        photo=photo,
        name=name,
        label=MANIPULATED if manipulated else AUTHENTIC,
        mask=mask if manipulated else None,
        split=split,
        origins=casia.origins(photo.stem),
        kind=casia.kind(photo.stem),
        problem="no mask of that name in Gt/" if manipulated and mask is None else None,
        stated=True,
    )


def _from_folders(source: Source, masks: dict[str, Path]) -> Iterator[Record]:
    """Every photo below the folders, and every mask without a photo."""
    left = dict(masks)
    for folder in _folders(source, (*_MANIPULATED, *_AUTHENTIC)):
        for photo in _photos(source, folder):
            key = _key(source.relative(photo).removeprefix(f"{folder}/"))
            if _is(folder, _MANIPULATED):
                left.pop(key, None)
            yield _record(source, photo, masks.get(key), None)
    for path in left.values():
        problem = "mask without a photo of that name"
        yield Record(path, source.relative(path), MANIPULATED, problem=problem)


def _from_list(source: Source, masks: dict[str, Path]) -> list[Record]:
    """The photos of `split.csv`; those in the folders that it does not list become problems."""
    where = str(source.root / _SPLITS)
    records = [
        _listed(source, masks, row, f"{where}: line {line}")
        for line, row in enumerate(_rows(source), start=2)
    ]
    listed = {record.name for record in records}
    for record in _from_folders(source, masks):
        if record.name not in listed and record.photo not in masks.values():
            records.append(replace(record, problem="not listed in split.csv"))
    return records


def _listed(
    source: Source, masks: dict[str, Path], row: dict[str, str | None], where: str
) -> Record:
    """The photo of one row of `split.csv`."""
    split = SPLIT_NAMES.get((row["split"] or "").strip().lower())
    if split is None:
        raise InputError(f"split {row['split']!r} is not train, val or test", where=where)
    image, named = row["image"] or "", row.get("mask")
    found = source.find(image)
    if found.file is None:
        name = printable(image)
        return Record(source.root / name, name, MANIPULATED, problem=found.problem)
    folder, _, rest = source.relative(found.file).partition("/")
    if not _is(folder, (*_MANIPULATED, *_AUTHENTIC)):
        raise InputError(f"{image!r} is not in Tp, Sp or Au", where=where)
    mask = source.find(named) if named else Found(masks.get(_key(rest)))
    record = _record(source, found.file, mask.file, split)
    notes = (found.note, mask.note and f"mask {mask.note}")
    problem = mask.problem and f"mask {named!r}: {mask.problem}"
    return replace(
        record,
        notes=tuple(filter(None, notes)),
        problem=problem or record.problem,
        guessed=printable(image) if found.note else None,
    )


def _rows(source: Source) -> list[dict[str, str | None]]:
    """The rows of split.csv; raises InputError when a column is missing."""
    path = source.root / _SPLITS
    try:
        reader = csv.DictReader(io.StringIO(source.text(path), newline=""))
        rows = list(reader)
    except csv.Error as error:
        raise InputError(f"not a CSV file ({error})", where=str(path)) from None
    if not {"split", "image"} <= set(reader.fieldnames or ()):
        raise InputError("needs the columns split,image (and mask)", where=str(path))
    return rows
