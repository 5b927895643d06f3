from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_support import Coco, coco_index, write_photo
from ingest_support import by_name, sides
from pycocotools import mask as codec

from components.core.errors import InputError
from components.ingest.formats import registry
from components.ingest.formats.record import Record


def test_coco_boxes_labels_and_sizes(coco: Coco) -> None:
    boxes = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 16], "annotator": "ann"},
        {
            "id": 2,
            "image_id": 1,
            "category_id": 2,
            "bbox": [1, 2, 3, 4],
            "attributes": {"seconds": 7},
        },
    ]
    categories = [{"id": 1, "name": "manipulated"}, {"id": 2, "name": "removal"}]
    records = by_name(coco(annotations=boxes, categories=categories))
    first, second = records["a.jpg"].boxes
    assert (first.x, first.y, first.width, first.height, first.annotator) == (10, 20, 30, 16, "ann")
    assert second.seconds == 7
    assert (records["a.jpg"].label, records["a.jpg"].kind) == ("manipulated", "removal")
    assert (records["b.jpg"].label, records["b.jpg"].boxes) == ("authentic", ())
    assert records["a.jpg"].size == (96, 64)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"annotations": [{"id": 1, "image_id": 5, "category_id": 1, "bbox": [0, 0, 1, 1]}]},
         "unknown image id 5"),
        ({"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}]},
         "images: id 1 is there twice"),
        ({"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "images/a.jpg"}]},
         "'a.jpg' is there twice"),
        ({"images": [{"id": 1, "file_name": ""}]}, "file_name is ''"),
        *(({"images": [{"id": 1, "file_name": "a.jpg", key: value}], "annotations": []},
           f"image 1: {key} is not text")
          for key in ("kind", "source", "mask") for value in (5, ["x"], "\udce9")),
        ({"images": [{"id": 1, "file_name": "a.jpg", "origins": "pla1"}], "annotations": []},
         "origins is not a list of texts"),
        ({"images": [{"id": 1, "file_name": "a.jpg", "mask": "/etc/hostname"}], "annotations": []},
         "leaves this folder"),
        ({"images": [{"id": 1, "file_name": "a.jpg", "label": "fake"}], "annotations": []},
         "label 'fake'"),
        ({"images": [{"id": 1, "file_name": "a.jpg", "split": "x"}], "annotations": []},
         "split 'x'"),
        ({"images": [], "annotations": []}, "no photos in it"),
    ],
)  # fmt: skip
def test_a_structurally_wrong_coco_file_is_refused(
    coco: Coco, changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        registry.read(coco(**changes))


def test_a_coco_name_too_long_to_exist_is_a_photo_that_is_absent(coco: Coco) -> None:
    name = "x" * 300 + ".jpg"
    root = coco(images=[{"id": 1, "file_name": name}], annotations=[])
    assert registry.read(root, authentic=True).records[0].name == name


@pytest.mark.parametrize(
    ("index", "photos", "prefix"),
    [
        ("annotations/instances_default.json", "images/default", "default/"),  # CVAT
        ("result.json", "images", ""),  # Label Studio
        ("labels.json", "data", ""),  # FiftyOne
        ("_annotations.coco.json", ".", ""),
    ],
)
def test_photos_are_found_where_exporters_put_them(
    tmp_path: Path, index: str, photos: str, prefix: str
) -> None:
    write_photo(tmp_path / photos / "a.jpg", 1)
    write_photo(tmp_path / photos / "b.jpg", 2)
    file_names = [f"{prefix}a.jpg", f"{prefix}b.jpg"]
    images = [{"id": n, "file_name": name} for n, name in enumerate(file_names, start=1)]
    (tmp_path / index).parent.mkdir(exist_ok=True)
    (tmp_path / index).write_text(json.dumps(coco_index(images=images)))
    records = registry.read(tmp_path).records
    assert [record.name for record in records] == file_names
    assert all(record.photo.is_file() for record in records)
    assert [r.name for r in registry.read(tmp_path / index).records] == file_names


def test_one_file_a_split_gives_the_splits(tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "valid", "test")):
        write_photo(tmp_path / split / "a.jpg", seed)
        write_photo(tmp_path / split / "b.jpg", seed + 10)
        (tmp_path / split / "_annotations.coco.json").write_text(json.dumps(coco_index()))
    records = by_name(tmp_path)
    assert {name: record.split for name, record in records.items()} == {
        "train/a.jpg": "train", "train/b.jpg": "train", "valid/a.jpg": "val",
        "valid/b.jpg": "val", "test/a.jpg": "test", "test/b.jpg": "test",
    }  # fmt: skip


def one(coco: Coco, row: dict[str, Any], **changes: Any) -> Record:
    """The record of a photo of 96x64 with one annotation."""
    row = {"id": 1, "image_id": 1, "category_id": 1, **row}
    return by_name(coco(annotations=[row], **changes))["a.jpg"]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"category_id": 9, "bbox": [0, 0, 1, 1]}, "annotation 1 has unknown category id 9"),
        ({"category_id": [1], "bbox": [0, 0, 1, 1]}, "annotation 1 has unknown category id [1]"),
        ({"bbox": [0, 0, 10**400, 1]}, "is not 4 numbers, and it has no outline"),
        ({"bbox": ["1", "2", "3", "4"]}, "bbox ['1', '2', '3', '4'] is not 4 numbers"),
        (
            {"bbox": [1, 2, 3, 4], "attributes": {"rotation": "left"}},
            "rotation is 'left'",
        ),
        ({"bbox": [1, 2, 3, 4], "attributes": {"rotation": float("nan")}}, "rotation is nan"),
        ({"segmentation": [[200, 200, 220, 200, 220, 220]]}, "nothing of the photo (96x64)"),
        ({"segmentation": {"size": [64, 96], "counts": [7000]}}, "more pixels than 96x64"),
        ({"segmentation": {"size": [64, 96], "counts": "x\u00ff"}}, "RLE is not COCO's"),
        ({"segmentation": {"size": [64, 96], "counts": "P"}}, "ends early"),
        ({"segmentation": {"size": [10**9, 96], "counts": [1]}}, "mask's size is 96 by 1000000000"),
        ({"segmentation": {"size": [0, 0], "counts": [0]}}, "mask's size is 0 by 0"),
        ({"segmentation": {"size": [32, 32], "counts": [1, 5]}}, "mask is 32x32 but the photo is"),
        ({"segmentation": {"size": [64, 96], "counts": [5]}}, "its mask is empty"),
        ({"keypoints": [1, 2, 2], "num_keypoints": 1}, "gives a box (keypoints)"),
    ],
)
def test_what_is_wrong_with_one_photo_is_that_photos_problem(
    coco: Coco, row: dict[str, Any], problem: str
) -> None:
    record = one(coco, row, categories=[{"id": 1, "name": "manipulated"}])
    assert problem in (record.problem or "")


@pytest.mark.parametrize("name", ["../../secret.jpg", "/etc/secret.jpg", "C:\\x\\secret.jpg"])
def test_a_name_never_leads_out_of_the_source(coco: Coco, name: str) -> None:
    root = coco(images=[{"id": 1, "file_name": name}], annotations=[])
    write_photo(root.parent / "secret.jpg", 9)
    record = registry.read(root, authentic=True).records[0]
    assert record.problem == "no such file"
    write_photo(root / "deep" / "secret.jpg", 9)
    record = registry.read(root, authentic=True).records[0]
    assert (record.name, record.problem) == ("deep/secret.jpg", None)
    assert record.notes == ("found by its base name: deep/secret.jpg",)


RING = [10, 20, 40, 20, 40, 36, 10, 36]


@pytest.mark.parametrize("bbox", [{}, {"bbox": []}, {"bbox": ["a"]}, {"bbox": [0, 0, 0, 0]}])
def test_the_box_is_that_of_the_outline_where_there_is_none(
    coco: Coco, bbox: dict[str, Any]
) -> None:
    record = one(coco, {"segmentation": [RING, [50, 40, 60, 40, 60, 50]], **bbox})
    assert sides(record) == [(10, 20, 50, 30)]
    assert record.boxes[0].region == [RING, [50, 40, 60, 40, 60, 50]]
    assert "outline" in (record.boxes[0].note or "")


def test_an_outline_is_kept_beside_the_box_and_cut_off_at_the_edges(coco: Coco) -> None:
    record = one(coco, {"bbox": [10, 20, 30, 16], "segmentation": [RING]})
    assert (sides(record), record.boxes[0].region) == ([(10, 20, 30, 16)], [RING])
    record = one(coco, {"segmentation": [[-10, 20, 30, 20, 30, 90, -10, 90]]})
    assert sides(record) == [(0, 20, 30, 44)]
    record = one(coco, {"bbox": [10, 20, 30, 16], "segmentation": [["a"] * 6]})
    assert sides(record) == [(10, 20, 30, 16)]
    assert record.boxes[0].note == "without its outline: its outline is 'a', not a number"
    for nothing in ([], [[]], [[1, 2]], None, {}):
        record = one(coco, {"bbox": [10, 20, 30, 16], "segmentation": nothing})
        assert (sides(record), record.boxes[0].region) == ([(10, 20, 30, 16)], None)


def test_run_lengths_compressed_or_not_give_the_same_mask(coco: Coco) -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        mask = np.zeros((64, 96), np.uint8)
        x, y = rng.integers(0, 60), rng.integers(0, 40)
        mask[y : y + 20, x : x + 30] = rng.random((20, 30)) > 0.4
        packed = codec.encode(np.asfortranarray(mask))
        flat = np.concatenate([[0], mask.ravel(order="F"), [2]])
        ends = np.flatnonzero(np.diff(flat))
        counts = np.diff([0, *ends]).tolist()
        if mask[0, 0]:
            counts = [0, *counts]
        for written in (packed["counts"].decode(), counts):
            record = one(coco, {"segmentation": {"size": [64, 96], "counts": written}})
            region = record.boxes[0].region
            assert isinstance(region, dict)
            assert np.array_equal(codec.decode(region), mask)
            assert sides(record) == [tuple(codec.toBbox(packed))]


def test_a_turned_box_becomes_the_upright_one_round_it(coco: Coco) -> None:
    turned = {"bbox": [20, 20, 40, 10], "attributes": {"rotation": 90.0, "occluded": False}}
    record = one(coco, turned)
    assert sides(record) == [(35, 5, 10, 40)]
    assert record.boxes[0].region == [[45, 5, 45, 45, 35, 45, 35, 5]]
    assert record.boxes[0].note == "the upright box of one turned by 90 degrees"
    plain = {**turned, "segmentation": [[20, 20, 60, 20, 60, 30, 20, 30]]}
    assert sides(one(coco, plain)) == [(35, 5, 10, 40)]
    for nothing in (0, 0.0, 360, -720.0, "0"):
        record = one(coco, {**turned, "attributes": {"rotation": nothing}})
        assert (sides(record), record.boxes[0].note) == ([(20, 20, 40, 10)], None)
    assert sides(one(coco, {**turned, "attributes": {"rotation": "45"}})) == [
        (22.322, 7.322, 35.355, 35.355)
    ]


@pytest.mark.parametrize(
    ("place", "folder", "names"),
    [
        ("annotations/instances_val2017.json", "val2017", ["a.jpg", "b.jpg"]),
        ("annotations/instances_default.json", "images/default", ["a.jpg", "b.jpg"]),
        ("ds0/annotations/instances.json", "ds0/images", ["a.jpg", "b.jpg"]),
        ("ds0/annotations/instances.json", "ds0/img", ["a.jpg", "b.jpg"]),
        ("result.json", "images", ["images\\a.jpg", "images\\3/../b.jpg"]),
        ("result.json", "images", ["images/1a2b3c4d-a.jpg", "0123abcd-b.jpg"]),
        ("all.JSON", "photos 1", ["D:\\work\\a.jpg", "\\\\server\\share\\B.JPG"]),
        ("labels.json", "data", ["/home/x/fiftyone/data/a.jpg", "b.jpg"]),
        ("labels.json", "x", ["https://host.org/a.jpg?width=5", "/data/local-files/?d=x%2Fb.jpg"]),
    ],
)
def test_the_layouts_of_the_tools(
    tmp_path: Path, place: str, folder: str, names: list[str]
) -> None:
    for seed, name in enumerate("ab"):
        write_photo(tmp_path / folder / f"{name}.jpg", seed)
    images = [{"id": str(n), "file_name": name} for n, name in enumerate(names)]
    row = {"id": 1, "image_id": "0", "category_id": 1, "bbox": [10, 20, 30, 16]}
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(coco_index(images=images, annotations=[row]))
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / place).write_text(text, encoding=encoding)
        reading = registry.read(tmp_path)
        assert [record.photo.name for record in reading.records] == ["a.jpg", "b.jpg"]
        assert [record.problem for record in reading.records] == [None, None]
        assert [len(record.boxes) for record in reading.records] == [1, 0]
        assert reading.left == []


def test_subsets_with_equal_names_and_files_of_other_tasks(tmp_path: Path) -> None:
    caption = [{"id": 1, "image_id": 1, "caption": "a street"}]
    person = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "keypoints": [1, 2, 2]}
    ]
    for seed, subset in enumerate(("train2017", "val2017")):
        for name in "ab":
            write_photo(tmp_path / subset / f"{name}.jpg", seed)
        files = {
            "instances": coco_index(),
            "captions": coco_index(annotations=caption),
            "person_keypoints": coco_index(
                annotations=person, categories=[{"id": 1, "name": "person"}]
            ),
        }
        for task, index in files.items():
            file = tmp_path / "annotations" / f"{task}_{subset}.json"
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps(index))
    (tmp_path / "info.json").write_text("{}")
    reading = registry.read(tmp_path)
    assert {record.name: record.split for record in reading.records} == {
        "train2017/a.jpg": "train",
        "train2017/b.jpg": "train",
        "val2017/a.jpg": "val",
        "val2017/b.jpg": "val",
    }
    reasons = {left.what: left.reason for left in reading.left}
    assert reasons == {
        "annotations/captions_train2017.json": "COCO captions, not boxes",
        "annotations/captions_val2017.json": "COCO captions, not boxes",
        "annotations/person_keypoints_train2017.json": "COCO keypoints, not boxes",
        "annotations/person_keypoints_val2017.json": "COCO keypoints, not boxes",
        "info.json": "not a COCO detection file",
    }
    captions = tmp_path / "annotations" / "captions_val2017.json"
    with pytest.raises(InputError, match="no COCO detection file: COCO captions"):
        registry.read(captions)


def test_a_file_linked_from_outside_is_not_read(coco: Coco) -> None:
    root = coco(images=[{"id": 1, "file_name": "link.jpg"}], annotations=[])
    (root / "link.jpg").symlink_to(write_photo(root.parent / "secret.jpg", 9))
    reading = registry.read(root, authentic=True)
    assert reading.records[0].problem == "no such file"
    assert ("link.jpg", "a link out of the folder") in reading.left
