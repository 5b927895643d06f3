"""Exports that are not read, told apart so that a refusal can say what to do instead."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element

from components.core.errors import InputError
from components.ingest.formats import folders
from components.ingest.formats.source import Source

_COCO = "export the annotations as COCO"
# By keys of its object, or of the first one in its list or object.
_JSON = (
    ({"_via_img_metadata"}, "VGG VIA JSON", _COCO),
    ({"regions", "filename"}, "VGG VIA JSON", _COCO),
    ({"items", "categories"}, "Datumaro JSON", _COCO),
    ({"objects", "size", "tags"}, "Supervisely JSON", _COCO),
    ({"samples"}, "FiftyOne JSON", "export as COCODetectionDataset"),
    ({"image_id", "bbox"}, "a list of COCO results", "give a file with images and annotations"),
    ({"image", "annotations"}, "CreateML JSON", _COCO),
    ({"shapes", "tracks"}, "a backup of CVAT", _COCO),
    ({"data", "predictions"}, "Label Studio JSON without annotations", "export as JSON"),
)
# By columns of its first line.
_CSV = (
    ({"annotation_id", "lead_time"}, "Label Studio CSV", "export as JSON"),
    ({"region_shape_attributes"}, "VGG VIA CSV", _COCO),
    ({"xmin"}, "CSV of boxes", _COCO),
)
_BY_FOLDER = {
    "labelTxt": ("DOTA's format", "export as YOLO OBB"),
    "label_2": ("KITTI's format", _COCO),
    "SegmentationClass": ("a class mask", _COCO),
}
_BY_SUFFIX = {
    **dict.fromkeys((".zip", ".tar", ".tgz", ".gz", ".rar", ".7z"), ("an archive", "unpack it")),
    **dict.fromkeys((".tfrecord", ".ndjson", ".jsonl", ".parquet"), ("this format", _COCO)),
}


def refuse(source: Source) -> None:
    """Raise InputError naming the first thing that no reader reads, if any is known."""
    for file, what, hint in _known(source):
        raise InputError(f"{what} is not read", where=str(file), hint=hint)
    if where := folders.deeper(source):
        raise InputError("no annotations found", where=str(source.path), hint=f"import {where}")
    if mask := folders.unpaired_mask(source):
        hint = "put manipulated photos in Tp/, masks in Gt/ and authentic photos in Au/"
        raise InputError("masks without folders of photos", where=str(mask), hint=hint)


def _known(source: Source) -> Iterator[tuple[Path, str, str]]:
    for file, document in source.documents():
        if isinstance(document, Element):
            if document.tag == "annotation" and document.find("imagesize") is not None:
                yield file, "LabelMe XML", "export as LabelMe JSON, Pascal VOC or COCO"
            continue
        keys = _keys(document)
        yield from ((file, what, hint) for has, what, hint in _JSON if has <= keys)
    for file in source.sample(".csv", ".tsv"):
        columns = _columns(source, file)
        yield from ((file, what, hint) for has, what, hint in _CSV if has <= columns)
    for folder in sorted(source.folders):
        if known := _BY_FOLDER.get(PurePosixPath(folder).name):
            yield (source.root / folder, *known)
    for file in source.sample(*_BY_SUFFIX):
        yield (file, *_BY_SUFFIX[file.suffix.lower()])


def _columns(source: Source, file: Path) -> set[str]:
    """The columns that the first line of a CSV or TSV file names."""
    try:
        first = source.text(file).partition("\n")[0].strip().replace("\t", ",")
        return {column.lower() for column in next(csv.reader([first]), ())}
    except (InputError, csv.Error):
        return set()


def _keys(document: Any) -> set[str]:
    """The keys of an object, of the first one of a list, or of the first one in an object."""
    if isinstance(document, list):
        document = document[0] if document else None
    if not isinstance(document, dict):
        return set()
    first = next(iter(document.values()), None)
    return set(document) | (set(first) if isinstance(first, dict) else set())
