"""How names in annotation files find their photos, and what is never read."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import pytest

from components.core.errors import InputError
from components.ingest.formats import registry
from components.ingest.formats.source import Source


def files(root: Path, *names: str) -> Source:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"photo")
    return Source(root)


def found(source: Source, name: str, **where: object) -> str | None:
    file = source.find(name, **where).file  # type: ignore[arg-type]
    return source.relative(file) if file else None


@pytest.mark.parametrize(
    ("written", "file"),
    [
        ("a.jpg", "a.jpg"),
        ("./x/../a.jpg", "a.jpg"),
        ("a.jpg", "images/a.jpg"),
        ("sub/a.jpg", "images/sub/a.jpg"),
        ("a.jpg", "images/default/a.jpg"),
        ("sub\\a.jpg", "sub/a.jpg"),
        ("C:\\Users\\x\\a.jpg", "photos/a.jpg"),
        ("/home/x/set/sub/a.jpg", "set/sub/a.jpg"),
        ("../../a.jpg", "images/a.jpg"),
        (unicodedata.normalize("NFC", "Übung é.jpg"), unicodedata.normalize("NFD", "Übung é.jpg")),
        ("a", "JPEGImages/a.png"),
        ("a.v2", "a.v2.jpg"),
        # Names that look like another machine's paths, or are part of an address.
        ("a:b.jpg", "a:b.jpg"),
        ("C:x.jpg", "images/C:x.jpg"),
        ("x\\y.jpg", "x\\y.jpg"),
        (" x.jpg", " x.jpg"),
        ("x%20y.jpg", "x y.jpg"),
        ("x%20y.jpg", "x%20y.jpg"),
        ("https://host/p/x%20y.jpg?key=1", "x y.jpg"),
        ("s3://bucket/p/0a1b2c3d-x.jpg", "x.jpg"),
    ],
)
def test_a_name_finds_its_photo(tmp_path: Path, written: str, file: str) -> None:
    assert found(files(tmp_path, file, "b.jpg"), written) == file


def test_a_path_goes_before_a_base_name(tmp_path: Path) -> None:
    source = files(tmp_path, "a.jpg", "val/a.jpg", "deep/val/a.jpg")
    assert found(source, "a.jpg") == "a.jpg"
    assert found(source, "val/a.jpg") == "val/a.jpg"
    assert found(source, "x/deep/val/a.jpg") == "deep/val/a.jpg"


def test_places_beside_the_annotation_file_go_first(tmp_path: Path) -> None:
    source = files(tmp_path, "a.jpg", "set/a.jpg", "set/images/b.jpg", "images/b.jpg")
    assert found(source, "a.jpg", beside=tmp_path / "set/list.json") == "set/a.jpg"
    assert found(source, "b.jpg", beside=tmp_path / "set/list.json") == "set/images/b.jpg"


def test_equal_base_names_are_told_apart_by_the_subset_or_not_at_all(tmp_path: Path) -> None:
    source = files(tmp_path, "train2017/a.jpg", "val2017/a.jpg")
    assert found(source, "a.jpg", prefer=["val2017"]) == "val2017/a.jpg"
    assert "2 files" in str(source.find("a.jpg").problem)


def test_a_base_name_is_noted(tmp_path: Path) -> None:
    source = files(tmp_path, "deep/below/a.jpg")
    assert "deep/below/a.jpg" in str(source.find("elsewhere/a.jpg").note)
    assert source.find("deep/below/a.jpg").note is None
    assert source.find("a.jpg").note is not None


@pytest.mark.parametrize("name", ["", ".", "..", "/", "gone.jpg", "a\0.jpg", "x" * 5000, "\udc80"])
def test_names_of_nothing(tmp_path: Path, name: str) -> None:
    assert files(tmp_path, "a.jpg").find(name).problem


def test_nothing_outside_is_found(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/far.jpg").write_bytes(b"secret")
    source = files(tmp_path / "in", "a.jpg")
    (tmp_path / "in/link.jpg").symlink_to(tmp_path / "secret.jpg")
    (tmp_path / "in/folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in/fine.jpg").symlink_to("a.jpg")
    for name in ("secret.jpg", "../secret.jpg", str(tmp_path / "secret.jpg"), "link.jpg", "far.jpg",
                 "folder/far.jpg"):  # fmt: skip
        assert source.find(name).file is None
    assert found(source, "fine.jpg") == "fine.jpg"
    assert {row.what for row in source.left} == {"folder", "link.jpg"}


def test_one_annotation_file_searches_its_folder(tmp_path: Path) -> None:
    files(tmp_path, "annotations/list.json", "images/a.jpg")
    source = Source(tmp_path / "annotations/list.json")
    assert found(source, "a.jpg", beside=source.path) == "images/a.jpg"
    assert source.files(".json") == [source.path]
    assert source.unused() == []


def test_links_in_a_circle_and_what_is_no_file_are_left_out(tmp_path: Path) -> None:
    source = files(tmp_path, "a.jpg")
    (tmp_path / "circle").symlink_to(".")
    (tmp_path / "itself.jpg").symlink_to("itself.jpg")
    (tmp_path / "dead.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert source.names == ["a.jpg"]
    assert sorted(source.left) == [
        ("circle", "a link to a folder"),
        ("dead.jpg", "a link to nothing"),
        ("itself.jpg", "a link to nothing"),
        ("pipe.jpg", "neither a file nor a folder"),
    ]


def test_files_that_no_reader_used(tmp_path: Path) -> None:
    source = files(tmp_path, "a.jpg", "b.jpg", ".DS_Store")
    source.use(tmp_path / "a.jpg")
    assert source.unused() == [".DS_Store", "b.jpg"]
    assert [source.relative(file) for file in source.photos()] == ["a.jpg", "b.jpg"]


def test_texts_of_every_tool(tmp_path: Path) -> None:
    source = files(tmp_path, "a.txt")
    file = tmp_path / "a.txt"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        file.write_text("Übung", encoding=encoding)
        assert source.text(file) == "Übung"
    file.write_bytes(b"\xff\x00\x12")
    with pytest.raises(InputError, match="UTF-8"):
        source.text(file)


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        Source(tmp_path / "none")


def test_a_base_name_does_not_lead_to_a_photo_that_another_row_names(tmp_path: Path) -> None:
    files(tmp_path, "val/a.jpg", "b.jpg")
    names = ("train/a.jpg", "val/a.jpg", "b.jpg")
    index = {
        "images": [{"id": n, "file_name": name} for n, name in enumerate(names)],
        "annotations": [{"id": 1, "image_id": 2, "category_id": 1, "bbox": [1, 1, 5, 5]}],
        "categories": [{"id": 1, "name": "manipulated"}],
    }
    (tmp_path / "x.json").write_text(json.dumps(index))
    missing, *others = registry.read(tmp_path).records
    assert (missing.name, missing.problem) == (
        "train/a.jpg",
        "no such file (val/a.jpg is another photo)",
    )
    assert [record.name for record in others] == ["val/a.jpg", "b.jpg"]


def test_what_systems_keep_beside_photos_is_no_photo(tmp_path: Path) -> None:
    source = files(tmp_path, "a.jpg", "@eaDir/a.jpg/THUMB_M.jpg", "$RECYCLE.BIN/b.jpg")
    assert source.photos() == [tmp_path / "a.jpg"]
