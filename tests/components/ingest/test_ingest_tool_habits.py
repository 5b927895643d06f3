"""What trying the tools' own files showed: habits that no format's description mentions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from data_support import coco_index, write_photo
from ingest_support import by_name, sides

from components.ingest.formats import registry


def test_coco_files_beside_instances_are_about_the_same_photos(tmp_path: Path) -> None:
    """As datumaro and COCO 2017 write them; without instances such a file is read."""
    for name in ("a.jpg", "b.jpg"):
        write_photo(tmp_path / "images" / "train" / name, ord(name[0]))
    (tmp_path / "annotations").mkdir()
    for task in ("instances", "stuff", "image_info", "labels"):
        index = coco_index(**({} if task in ("instances", "stuff") else {"annotations": []}))
        (tmp_path / "annotations" / f"{task}_train.json").write_text(json.dumps(index))
    reading = registry.read(tmp_path)
    assert [len(record.boxes) for record in reading.records] == [1, 0]
    reason = "its photos are those of instances_train.json"
    assert sorted(left.what for left in reading.left if left.reason == reason) == [
        f"annotations/{task}_train.json" for task in ("image_info", "labels", "stuff")
    ]
    for task in ("instances", "image_info", "labels"):
        (tmp_path / "annotations" / f"{task}_train.json").unlink()
    assert [len(record.boxes) for record in registry.read(tmp_path).records] == [1, 0]


def test_labelme_xml_is_read_but_for_what_was_deleted(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.jpg", 1)
    points = "".join(
        f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in ((2.5, 3), (22.5, 3), (22.5, 13), (2.5, 13))
    )
    polygon = f"<polygon><username/>{points}</polygon>"
    shapes = "".join(
        f"<object><name>{name}</name><deleted>{deleted}</deleted>{polygon}</object>"
        for name, deleted in (("splice", 0), ("removal", 1))
    )
    (tmp_path / "a.xml").write_text(f"<annotation><filename>a.jpg</filename>{shapes}</annotation>")
    record = by_name(tmp_path)["a.jpg"]
    assert sides(record) == [(2.5, 3.0, 20.0, 10.0)]
    assert record.kind == "splice"


def test_lists_of_voc_name_photos_by_their_folders(tmp_path: Path) -> None:
    """As CVAT writes them: photos of one name in two folders are of two splits."""
    corners = "<xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>"
    box = f"<object><name>x</name><bndbox>{corners}</bndbox></object>"
    for number, folder in enumerate(("one", "two")):
        write_photo(tmp_path / "JPEGImages" / folder / "a.jpg", number)
        (tmp_path / "Annotations" / folder).mkdir(parents=True)
        text = f"<annotation><filename>{folder}/a.jpg</filename>{box}</annotation>"
        (tmp_path / "Annotations" / folder / "a.xml").write_text(text)
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("one/a\n")
    (tmp_path / "ImageSets" / "Main" / "test.txt").write_text("two/a 1\n")
    records = by_name(tmp_path)
    assert {name: record.split for name, record in records.items()} == {
        "one/a.jpg": "train",
        "two/a.jpg": "test",
    }


def test_a_photo_without_a_shape_may_be_said_to_be_manipulated(tmp_path: Path) -> None:
    for format in ("cvat", "studio"):
        write_photo(tmp_path / format / "images" / "a.jpg", 1)
    tag = '<tag label="manipulated" source="manual"/>'
    image = f'<image id="0" name="a.jpg" width="96" height="64">{tag}</image>'
    (tmp_path / "cvat" / "annotations.xml").write_text(f"<annotations>{image}</annotations>")
    choice = {"type": "choices", "value": {"choices": ["manipulated"]}}
    data = {"image": "images/a.jpg", "split": "test", "source": 5, "origins": ["o1"]}
    tasks = [{"id": 1, "data": data, "annotations": [{"result": [choice]}]}]
    (tmp_path / "studio" / "tasks.json").write_text(json.dumps(tasks))
    for format in ("cvat", "studio"):
        record = by_name(tmp_path / format)["a.jpg"]
        assert (record.label, record.boxes) == ("manipulated", ())
    assert (record.split, record.source, record.origins) == ("test", None, ("o1",))


@pytest.mark.parametrize("layout", ["images/{}/a/p.jpg", "{}/images/a/p.jpg"])
def test_yolo_photos_are_not_named_after_their_split(tmp_path: Path, layout: str) -> None:
    """Unless that would name two of them alike."""
    for number, split in enumerate(("train", "val")):
        photo = layout.format(split).replace("p.jpg", f"{number}.jpg")
        write_photo(tmp_path / photo, number)
        label = tmp_path / photo.replace("images/", "labels/").replace(".jpg", ".txt")
        label.parent.mkdir(parents=True)
        label.write_text("0 0.5 0.5 0.25 0.25\n")
    settings = "".join(
        f"{split}: {layout.format(split).removesuffix('/a/p.jpg')}\n" for split in ("train", "val")
    )
    (tmp_path / "data.yaml").write_text(f"{settings}names: [manipulated]\n")
    splits = {name: record.split for name, record in by_name(tmp_path).items()}
    assert splits == {"a/0.jpg": "train", "a/1.jpg": "val"}
    write_photo(tmp_path / layout.format("val").replace("p.jpg", "0.jpg"), 3)
    assert len(by_name(tmp_path)) == 3
    assert "a/0.jpg" not in by_name(tmp_path)
