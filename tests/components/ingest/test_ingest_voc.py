from __future__ import annotations

from pathlib import Path

import pytest
from data_support import write_photo
from ingest_support import by_name, sides

from components.core.errors import InputError
from components.ingest.formats import registry


def voc(root: Path, stem: str, objects: str, head: str = "") -> None:
    write_photo(root / "JPEGImages" / f"{stem}.jpg", len(stem))
    (root / "Annotations").mkdir(exist_ok=True)
    size = "<size><width>96</width><height>64</height><depth>3</depth></size>"
    (root / "Annotations" / f"{stem}.xml").write_text(
        f"{head}<annotation><filename>{stem}.jpg</filename>{size}{objects}</annotation>"
    )


def voc_object(xmin: object, ymin: object, xmax: object, ymax: object) -> str:
    corners = f"<xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax>"
    return f"<object><name>splice</name><bndbox>{corners}</bndbox></object>"


def test_voc_corners_count_from_one_and_are_inclusive(tmp_path: Path) -> None:
    voc(
        tmp_path,
        "a",
        voc_object(1, 1, 96, 64) + voc_object(11, 21, 40, 36) + voc_object(0, 0, 5, 5),
    )
    voc(tmp_path, "bb", "")
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "test.txt").write_text("a 1\n\n")
    records = by_name(tmp_path)
    boxes = [(box.x, box.y, box.width, box.height) for box in records["a.jpg"].boxes]
    assert boxes == [(0, 0, 96, 64), (10, 20, 30, 16), (0, 0, 5, 5)]
    assert (records["a.jpg"].label, records["a.jpg"].kind) == ("manipulated", "splice")
    assert (records["a.jpg"].split, records["a.jpg"].size) == ("test", (96, 64))
    assert (records["bb.jpg"].label, records["bb.jpg"].split) == ("authentic", None)


def test_voc_lists_name_photos_with_spaces_and_hidden_files_are_left_out(tmp_path: Path) -> None:
    for stem in ("my photo 1", "my photo 2", "b"):
        voc(tmp_path, stem, voc_object(1, 1, 9, 9))
    (tmp_path / "Annotations" / "._b.xml").write_bytes(b"\0\5\26\7")
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "test.txt").write_text("\ufeffmy photo 1\n   \nmy photo 2  -1\n", encoding="utf-8")
    records = by_name(tmp_path)
    splits = {name: record.split for name, record in records.items()}
    assert splits == {"my photo 1.jpg": "test", "my photo 2.jpg": "test", "b.jpg": None}
    (lists / "test.txt").write_bytes("né\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"test\.txt: not UTF-8"):
        registry.read(tmp_path)


@pytest.mark.parametrize(
    ("objects", "head", "complaint"),
    [
        (voc_object("ten", 1, 2, 3), "", "xmin is 'ten', not a number"),
        (voc_object("nan", 1, 2, 3), "", "xmin is 'nan'"),
        ("<object><name>x</name></object>", "", "xmin is None"),
        ("<object>", "", "Annotations/a.xml: not valid XML"),
        ("", "<!DOCTYPE annotation>", "entities are not accepted"),
        ("", '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]>', "not accepted"),
        ("", '<?xml version="1.0" encoding="utf-7"?>+ADwAIQ-DOCTYPE a+AD4-', "not accepted"),
        ("", '<?xml version="1.0" encoding="klingon"?>', "not valid XML (unknown encoding"),
    ],
)
def test_wrong_or_unsafe_xml_is_its_photos_problem(
    tmp_path: Path, objects: str, head: str, complaint: str
) -> None:
    voc(tmp_path, "a", objects, head)
    voc(tmp_path, "bb", "")
    records = by_name(tmp_path)
    assert complaint in (records["a.jpg"].problem or "")
    assert records["bb.jpg"].problem is None
    (tmp_path / "Annotations" / "bb.xml").unlink()
    if "XML" in complaint or "accepted" in complaint:  # nothing tells that it is VOC at all
        with pytest.raises(InputError, match=r"not valid XML|not accepted"):
            registry.read(tmp_path)


def test_a_voc_path_cannot_leave_its_folder(tmp_path: Path) -> None:
    voc(tmp_path, "a", voc_object(1, 1, 9, 9))
    write_photo(tmp_path.parent / "secret.jpg", 3)
    path = tmp_path / "Annotations" / "a.xml"
    path.write_text(path.read_text().replace("a.jpg", "../../../secret.jpg"))
    assert by_name(tmp_path)["a.jpg"].notes == ("found by its base name: JPEGImages/a.jpg",)
    (tmp_path / "JPEGImages" / "a.jpg").unlink()
    assert by_name(tmp_path)["secret.jpg"].problem == "no such file"


def write_xml(path: Path, filename: str, objects: str = "", head: str = "", **save: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = f"{head}<annotation><filename>{filename}</filename>{objects}</annotation>"
    path.write_text(text, **save)


@pytest.mark.parametrize(
    "filename", ["a.jpg", "a", "a.png", "", "C:\\photos\\a.JPG", "photos/a.jpg", "other.jpg"]
)
@pytest.mark.parametrize("place", ["Annotations", "JPEGImages", "."])
def test_the_photo_is_found_by_its_name_or_that_of_the_xml(
    tmp_path: Path, filename: str, place: str
) -> None:
    write_photo(tmp_path / "JPEGImages" / "a.jpg", 1)
    write_photo(tmp_path / "SegmentationClass" / "a.png", 2)
    write_xml(tmp_path / place / "a.xml", filename, voc_object(1, 1, 9, 9))
    (record,) = registry.read(tmp_path, "voc").records
    assert (record.photo, record.problem) == (tmp_path / "JPEGImages" / "a.jpg", None)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gb2312", "iso-8859-1"])
def test_xml_in_the_encodings_of_tools(tmp_path: Path, encoding: str) -> None:
    name = "caf\u00e9" if encoding == "iso-8859-1" else "\u7167\u7247"
    write_photo(tmp_path / f"{name}.jpg", 1)
    declared = encoding.removesuffix("-sig")
    head = f'<?xml version="1.0" encoding="{declared}"?>'
    drawn = voc_object(1, 1, 9, 9)
    write_xml(tmp_path / "1.xml", f"{name}.jpg", drawn, head, encoding=encoding)
    assert by_name(tmp_path)[f"{name}.jpg"].problem is None


def test_turned_boxes_and_outlines(tmp_path: Path) -> None:
    turned = "<cx>40</cx><cy>25</cy><w>40</w><h>10</h><angle>1.570796</angle>"
    rotation = "<attribute><name>rotation</name><value>90.0</value></attribute>"
    outline = "<x1>10</x1><y1>20</y1><x2>40</x2><y2>20</y2><x3>40</x3><y3>36.5</y3>"
    voc(tmp_path, "a", f"<object><name>x</name><robndbox>{turned}</robndbox></object>")
    box = voc_object(21, 21, 60, 30).replace(
        "</object>", f"<attributes>{rotation}</attributes></object>"
    )
    voc(tmp_path, "bb", box)
    polygon = f"<polygon>{outline}</polygon>"
    voc(tmp_path, "ccc", f"<object><name>x</name>{polygon}</object>")
    voc(tmp_path, "dddd", voc_object(11, 21, 40, 36).replace("</object>", f"{polygon}</object>"))
    records = by_name(tmp_path)
    assert sides(records["a.jpg"]) == sides(records["bb.jpg"]) == [(35, 5, 10, 40)]
    assert "turned by 90 degrees" in (records["bb.jpg"].boxes[0].note or "")
    assert sides(records["ccc.jpg"]) == [(10, 20, 30, 16.5)]
    assert sides(records["dddd.jpg"]) == [(10, 20, 30, 16)]
    assert records["dddd.jpg"].boxes[0].region == [[10, 20, 40, 20, 40, 36.5]]


def test_splits_of_folders_with_equal_names(tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "valid")):
        write_photo(tmp_path / split / "a.jpg", seed)
        write_xml(tmp_path / split / "a.xml", "a.jpg", voc_object(1, 1, 9, 9))
    (tmp_path / "notes.xml").write_text("<notes/>")
    reading = registry.read(tmp_path)
    assert {r.name: r.split for r in reading.records} == {
        "train/a.jpg": "train",
        "valid/a.jpg": "val",
    }
    assert reading.left == [("notes.xml", "not a Pascal VOC file")]
