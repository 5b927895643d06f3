"""Exports that are not read are named, with what to export instead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from data_support import write_mask, write_photo

from components.core.errors import InputError
from components.ingest.formats import registry

_REGION = {"filename": "a.jpg", "size": 1, "regions": [], "file_attributes": {}}
_LABELME_XML = "<annotation><filename>a.jpg</filename><imagesize/><object/></annotation>"


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("via.json", {"a.jpg1": _REGION}, "VGG VIA JSON"),
        ("via.json", {"_via_settings": {}, "_via_img_metadata": {}}, "VGG VIA JSON"),
        ("via.csv", "filename,file_size,region_shape_attributes\n", "VGG VIA CSV"),
        ("annotations/default.json", {"info": {}, "categories": {}, "items": []}, "Datumaro JSON"),
        ("ann/a.jpg.json", {"tags": [], "size": {}, "objects": []}, "Supervisely JSON"),
        ("samples.json", {"samples": []}, "FiftyOne JSON"),
        ("a.createml.json", [{"image": "a.jpg", "annotations": []}], "CreateML JSON"),
        ("annotations.json", [{"version": 0, "shapes": [], "tracks": []}], "a backup of CVAT"),
        ("p.csv", "image,id,label,annotator,annotation_id,lead_time\n", "Label Studio CSV"),
        ("p.tsv", "image\tid\tannotation_id\tlead_time\n", "Label Studio CSV"),
        ("b.csv", "filename,width,height,class,xmin,ymin,xmax,ymax\n", "CSV of boxes"),
        ("c.csv", "ImageID,Source,LabelName,XMin,XMax,YMin,YMax\n", "CSV of boxes"),
        ("a.xml", _LABELME_XML, "LabelMe XML"),
        ("export.zip", "PK", "an archive"),
    ],
)
def test_an_export_that_is_not_read_is_named(
    tmp_path: Path, name: str, content: Any, what: str
) -> None:
    write_photo(tmp_path / "a.jpg", 1)
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError, match="is not read") as refused:
        registry.read(tmp_path)
    assert refused.value.what == f"{what} is not read"
    assert refused.value.where == str(file)
    assert refused.value.hint


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("labelTxt/a.txt", "DOTA's format"),
        ("set/label_2/a.txt", "KITTI's format"),
        ("SegmentationClass/a.png", "a class mask"),
    ],
)
def test_folders_of_an_export_that_is_not_read_are_named(
    tmp_path: Path, name: str, what: str
) -> None:
    write_photo(tmp_path / "images" / "a.jpg", 1)
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text("forged 1 1 2 1 2 2 1 2 0\n")
    with pytest.raises(InputError, match="is not read") as refused:
        registry.read(tmp_path)
    assert refused.value.what == f"{what} is not read"
    assert refused.value.where == str((tmp_path / name).parent)


def test_folder_pairs_one_folder_deeper_are_pointed_at(tmp_path: Path) -> None:
    write_photo(tmp_path / "CASIA2" / "Tp" / "a.jpg", 1)
    with pytest.raises(InputError, match="no annotations found") as refused:
        registry.read(tmp_path)
    assert refused.value.hint == f"import {tmp_path / 'CASIA2'}"


@pytest.mark.parametrize("mask", ["a_mask.png", "mask/1forged.png"])
def test_masks_without_folders_of_photos_are_not_called_authentic(
    tmp_path: Path, mask: str
) -> None:
    write_photo(tmp_path / "a.jpg", 1)
    write_mask(tmp_path / mask, (1, 2, 30, 40))
    with pytest.raises(InputError, match="masks without folders of photos") as refused:
        registry.read(tmp_path)
    assert refused.value.where == str(tmp_path / mask)


def test_a_mask_beside_its_photo_is_no_authentic_photo(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.jpg", 1)
    write_photo(tmp_path / "my mask.jpg", 2)
    write_mask(tmp_path / "a_mask.png", (1, 2, 30, 40))
    records = registry.read(tmp_path, authentic=True).records
    problems = {record.name: record.problem for record in records}
    assert problems == {
        "a.jpg": None,
        "a_mask.png": "called like the mask of a photo beside it",
        "my mask.jpg": None,
    }
