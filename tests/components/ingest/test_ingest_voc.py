from __future__ import annotations

from pathlib import Path

import pytest
from data_support import write_photo
from ingest_support import by_name

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
        voc(tmp_path, stem, "")
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
        (voc_object("ten", 1, 2, 3), "", "xmin is 'ten'"),
        ("<object><name>x</name></object>", "", "xmin is None"),
        ("<object>", "", "not valid XML"),
        ("", "<!DOCTYPE annotation>", "not accepted"),
        ("", '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]>', "not accepted"),
    ],
)
def test_wrong_or_unsafe_xml_is_refused(
    tmp_path: Path, objects: str, head: str, complaint: str
) -> None:
    voc(tmp_path, "a", objects, head)
    with pytest.raises(InputError, match=complaint):
        registry.read(tmp_path)


def test_a_voc_path_cannot_leave_its_folder(tmp_path: Path) -> None:
    voc(tmp_path, "a", "")
    path = tmp_path / "Annotations" / "a.xml"
    path.write_text(path.read_text().replace("a.jpg", "../../secret.jpg"))
    with pytest.raises(InputError, match="leaves this folder"):
        registry.read(tmp_path)
