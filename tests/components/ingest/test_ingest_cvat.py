from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_support import write_photo
from ingest_support import by_name, sides
from pycocotools import mask as codec

from components.core.errors import InputError
from components.ingest.formats import registry
from components.ingest.formats.record import Record


def write_cvat(root: Path, images: str, name: str = "annotations.xml") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    head = '<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta/>'
    (root / name).write_text(f"{head}{images}</annotations>")
    return root


def image(name: str, shapes: str, more: str = "") -> str:
    return f'<image id="0" name="{name}" width="96" height="64" {more}>{shapes}</image>'


def one(root: Path, shapes: str) -> Record:
    write_photo(root / "images" / "a.jpg", 1)
    return by_name(write_cvat(root, image("a.jpg", shapes)))["a.jpg"]


BOX = '<box label="{}" occluded="0" xtl="20" ytl="20" xbr="60" ybr="30" {}>{}</box>'


def test_boxes_with_labels_and_attributes(tmp_path: Path) -> None:
    attributes = (
        '<attribute name="annotator">ann</attribute><attribute name="seconds">7.5</attribute>'
    )
    record = one(
        tmp_path,
        BOX.format("manipulated", "", attributes) + BOX.format("splice", 'rotation="90.0"', ""),
    )
    assert sides(record) == [(20, 20, 40, 10), (35, 5, 10, 40)]
    assert (record.boxes[0].annotator, record.boxes[0].seconds) == ("ann", 7.5)
    assert "turned by 90" in (record.boxes[1].note or "")
    assert (record.label, record.kind, record.size) == ("manipulated", "splice", (96, 64))


def test_polygons_ellipses_and_masks(tmp_path: Path) -> None:
    record = one(tmp_path, '<polygon label="x" points="10.00,20.00;40.00,20.00;40.00,36.00"/>')
    assert (sides(record), record.boxes[0].region) == (
        [(10, 20, 30, 16)],
        [[10, 20, 40, 20, 40, 36]],
    )
    record = one(tmp_path, '<ellipse label="x" cx="40" cy="30" rx="20" ry="5" rotation="90"/>')
    assert sides(record) == [(35, 10, 10, 40)]
    # Rows of three: 0 1 1, 1 1 0.
    record = one(
        tmp_path, '<mask label="x" rle="1, 4, 1" left="10" top="20" width="3" height="2"/>'
    )
    region = record.boxes[0].region
    assert isinstance(region, dict)
    mask = codec.decode(region)
    assert mask[20:22, 10:13].tolist() == [[0, 1, 1], [1, 1, 0]]
    assert (mask.sum(), sides(record)) == (4, [(10, 20, 3, 2)])
    record = one(tmp_path, '<mask label="x" rle="0, 8" left="94" top="-1" width="4" height="2"/>')
    assert np.argwhere(codec.decode(record.boxes[0].region)).tolist() == [[0, 94], [0, 95]]


@pytest.mark.parametrize(
    ("shapes", "problem"),
    [
        (BOX.replace("60", "wide").format("x", "", ""), "box: xbr is 'wide'"),
        ('<polygon points="1,2;3,4"/>', "not three corners"),
        ('<polygon points="1,2;3,4;inf,6"/>', "its outline is 'inf'"),
        ('<mask rle="1,2" left="0" top="0" width="3" height="2"/>', "not those of 3x2 pixels"),
        ('<mask rle="1" left="0" top="0" width="99999999" height="2"/>', "mask's size is 99999999"),
        ('<ellipse cx="1" cy="2" rx="0" ry="3"/>', "radii 0 and 3"),
        ('<points label="x" points="1,2"/><polyline points="1,2;3,4"/>',
         "nothing drawn on it gives a box (points, polyline)"),
    ],
)  # fmt: skip
def test_a_wrong_shape_is_its_photos_problem(tmp_path: Path, shapes: str, problem: str) -> None:
    assert problem in (one(tmp_path, shapes).problem or "")


def test_shapes_that_give_no_box_are_left_out_beside_others(tmp_path: Path) -> None:
    shapes = BOX.format("x", "", "") + '<points label="x" points="1,2"/><tag label="night"/>'
    assert len(one(tmp_path, shapes).boxes) == 1
    left = registry.read(tmp_path).left
    assert left == [
        ("images/a.jpg: points", "gives no box"),
        ("images/a.jpg: tag night", "no shape"),
    ]
    (record,) = registry.read(write_cvat(tmp_path, image("a.jpg", "")), authentic=True).records
    assert record.label == "authentic"


def test_subsets_with_equal_names(tmp_path: Path) -> None:
    for seed, subset in enumerate(("Train", "Validation")):
        write_photo(tmp_path / "images" / subset / "a.jpg", seed)
    drawn = BOX.format("x", "", "")
    images = image("a.jpg", drawn, 'subset="Train"') + image("a.jpg", "", 'subset="Validation"')
    records = by_name(write_cvat(tmp_path, images))
    assert {name: (r.split, len(r.boxes)) for name, r in records.items()} == {
        "Train/a.jpg": ("train", 1),
        "Validation/a.jpg": ("val", 0),
    }


def test_a_subset_alone_is_no_split(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.jpg", 1)
    images = image("a.jpg", BOX.format("x", "", ""), 'subset="train"')
    assert by_name(write_cvat(tmp_path, images))["a.jpg"].split is None


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        ('<track id="0"><box/></track>', "tracks of a video, not photos; export the task as 'CVAT"),
        ('<image id="5" width="1" height="1"/>', "image 5: name is ''"),
        ("", "no photos in it"),
    ],
)
def test_what_is_no_export_of_photos_is_refused(
    tmp_path: Path, images: str, complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        registry.read(write_cvat(tmp_path, images))
