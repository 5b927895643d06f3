"""Pascal VOC XML: one file per photo in `Annotations/`, photos in `JPEGImages/` or `images/`.

Corners are pixels counted from 1 and inclusive, as VOC defines them, so a box spans
`xmin - 1 .. xmax`; tools that count from 0 lose nothing, the corner is kept at the photo's edge.
Photos without an object are authentic. Splits come from `ImageSets/Main/{train,val,test}.txt`.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from components.core.errors import InputError
from components.data.dataset import Inside
from components.data.manifest import AUTHENTIC, MANIPULATED, SPLITS
from components.ingest.formats.record import Box, Reading, Record, first_file
from components.ingest.formats.source import Source

_PHOTOS = ("JPEGImages", "images", "photos")
_PLAIN = {"", MANIPULATED}


def matches(source: Source) -> bool:
    """Whether this folder holds VOC annotations."""
    return bool(_annotations(source.path))


def read(source: Source) -> Reading:
    """All annotated photos.

    Raises:
        InputError: malformed or unsafe XML, a box without its corners, a path that leaves the
            folder.
    """
    files = _annotations(source.path)
    splits = _splits(source.path, {path.stem for path in files})
    return Reading([_record(source.path, path, splits.get(path.stem)) for path in files])


def _annotations(source: Path) -> list[Path]:
    """The XML files, hidden ones left out, from `Annotations/` where there is such a folder."""
    if not source.is_dir():
        return []
    for name in ("Annotations", "annotations", "."):
        if files := sorted((source / name).glob("[!.]*.xml")):
            return files
    return []


def _splits(source: Path, stems: set[str]) -> dict[str, str]:
    """Split by photo stem; a line is a stem, or one followed by 1 or -1 as in lists of a class."""
    found: dict[str, str] = {}
    for split in SPLITS:
        path = source / "ImageSets" / "Main" / f"{split}.txt"
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines() if path.is_file() else []
        except UnicodeDecodeError as error:
            what = f"not UTF-8 ({error})"
            raise InputError(what, where=str(path), hint="save it as UTF-8") from None
        for line in filter(None, map(str.strip, lines)):
            found[line if line in stems else line.rsplit(maxsplit=1)[0]] = split
    return found


def _parse(path: Path) -> ElementTree.Element:
    """The root element; document types and entities are refused before parsing."""
    data = path.read_bytes()
    # Entities can only be declared in a DOCTYPE, which other encodings could hide from this check.
    if b"\0" in data or b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise InputError("document types and entities are not accepted", where=str(path))
    try:
        return ElementTree.fromstring(data)  # noqa: S314 (no DOCTYPE, so no entities)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"not valid XML ({error})", where=str(path)) from None


def _record(source: Path, path: Path, split: str | None) -> Record:
    """One annotated photo."""
    root = _parse(path)
    filename = (root.findtext("filename") or "").strip() or f"{path.stem}.jpg"
    check = Inside(source)
    beside = path.parent.relative_to(source).as_posix()
    places = [check(f"{folder}/{filename}") for folder in (*_PHOTOS, ".", beside)]
    photo = first_file(places)
    objects = root.findall("object")
    kinds = {(element.findtext("name") or "").strip() for element in objects}
    return Record(
        photo=photo or places[0],
        name=filename,
        label=MANIPULATED if objects else AUTHENTIC,
        boxes=tuple(_box(element, path) for element in objects),
        split=split,
        kind="+".join(sorted(kind for kind in kinds if kind.lower() not in _PLAIN)) or None,
        size=_size(root),
    )


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    """(width, height) as annotated; tools write 0 for unknown."""
    try:
        width = int(root.findtext("size/width") or 0)
        height = int(root.findtext("size/height") or 0)
    except ValueError:
        return None
    return (width, height) if width > 0 and height > 0 else None


def _box(element: ElementTree.Element, path: Path) -> Box:
    """One object's box, from inclusive corners counted from 1."""
    corners = []
    for key in ("xmin", "ymin", "xmax", "ymax"):
        text = element.findtext(f"bndbox/{key}")
        try:
            corners.append(float(text or ""))
        except ValueError:
            raise InputError(f"{key} is {text!r}, not a number", where=str(path)) from None
    x0, y0, x1, y1 = corners
    x0 = 0.0 if 0 <= x0 < 1 else x0 - 1
    y0 = 0.0 if 0 <= y0 < 1 else y0 - 1
    return Box(x0, y0, x1 - x0, y1 - y0)
