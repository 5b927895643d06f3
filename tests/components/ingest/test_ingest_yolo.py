from __future__ import annotations

from pathlib import Path

import pytest
from data_support import write_photo
from ingest_support import by_name, sides
from PIL import Image

from components.ingest.formats import registry
from components.ingest.formats.record import Record

BOX = "0 0.3125 0.4375 0.3125 0.25\n"  # of 96x64 pixels: 15, 20, 30, 16


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding=encoding)
    return path


def one(root: Path, line: str, yaml: str = "names: [splice]\nval: images\n") -> Record:
    write_photo(root / "images" / "a.jpg", 1)
    write(root / "labels" / "a.txt", line)
    write(root / "data.yaml", yaml)
    return by_name(root)["a.jpg"]


@pytest.mark.parametrize(
    ("yaml", "photos", "labels"),
    [
        ("train: images/train\nval: images/val\nnames: {0: splice}\n", "images/{}", "labels/{}"),
        ("path: ../datasets/x\ntrain: images/train\nval: images/val\nnames: [splice]\n",
         "images/{}", "labels/{}"),
        ("train: ../train/images\nval: ../val/images\ntest: ../test/images\nnames: ['splice']\n",
         "{}/images", "{}/labels"),  # Roboflow: the paths do not exist from here
        ("train: C:\\d\\train\\images\nval: ['/d/val/images']\nnames: {'0': splice}\n",
         "{}/images", "{}/labels"),
        ("train: lists/train.txt\nval: ./lists/val.txt\nnames: [splice]\n",
         "images/{}", "labels/{}"),
        (None, "images/{}", "labels/{}"),
        (None, "{}", "{}"),
    ],
)  # fmt: skip
def test_the_layouts_of_the_tools(
    tmp_path: Path, yaml: str | None, photos: str, labels: str
) -> None:
    for seed, split in enumerate(("train", "val")):
        for name in "ab":
            write_photo(tmp_path / photos.format(split) / f"{name}.jpg", seed)
        write(tmp_path / labels.format(split) / "a.txt", BOX)
        listed = "".join(f"./{photos.format(split)}/{name}.jpg\n" for name in "ab")
        if yaml and "lists" in yaml:
            write(tmp_path / "lists" / f"{split}.txt", listed)
    if yaml:
        write(tmp_path / "data.yaml", yaml, encoding="utf-8-sig")
    reading = registry.read(tmp_path)
    assert [record.split for record in reading.records] == ["train", "train", "val", "val"]
    assert [len(record.boxes) for record in reading.records] == [1, 0, 1, 0]
    assert {record.kind for record in reading.records} == {"splice" if yaml else None, None}
    assert {record.problem for record in reading.records} == {None}
    assert reading.left == []
    assert ("../test/images" in yaml if yaml else False) == any(
        "../test/images is not there" in note for note in reading.notes
    )
    if yaml:
        alone = registry.read(tmp_path / "data.yaml")
        assert [record.name for record in alone.records] == [r.name for r in reading.records]


def test_darknet_and_cvat(tmp_path: Path) -> None:
    write_photo(tmp_path / "obj_train_data" / "a.jpg", 1)
    write_photo(tmp_path / "obj_Validation_data" / "a.jpg", 2)
    write(tmp_path / "obj_train_data" / "a.txt", BOX)
    write(tmp_path / "obj_Validation_data" / "a.txt", "")
    write(tmp_path / "obj_train_data" / "lost.txt", BOX)
    write(tmp_path / "obj.names", "splice\n")
    write(
        tmp_path / "obj.data",
        "classes = 1\ntrain = data/train.txt\nvalid = data/Validation.txt\n"
        "names = data/obj.names\n",
    )
    write(tmp_path / "train.txt", "data/obj_train_data/a.jpg\ndata/obj_train_data/gone.jpg\n")
    write(tmp_path / "Validation.txt", "data/obj_Validation_data/a.jpg\n")
    reading = registry.read(tmp_path)
    found = {r.name: (r.split, r.kind, r.problem) for r in reading.records}
    assert found == {
        "obj_train_data/a.jpg": ("train", "splice", None),
        "obj_train_data/gone.jpg": ("train", None, "no such file"),
        "obj_Validation_data/a.jpg": ("val", None, None),
    }
    assert reading.left == [("obj_train_data/lost.txt", "labels without a photo of that name")]


def test_labels_beside_the_photos_with_classes(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.jpg", 1)
    write(tmp_path / "classes.txt", "removal\n")
    write(tmp_path / "a.txt", BOX, encoding="utf-16")
    record = by_name(tmp_path)["a.jpg"]
    assert (sides(record), record.kind) == ([(15, 20, 30, 16)], "removal")


def test_numbers_are_of_the_upright_photo(tmp_path: Path) -> None:
    photo = Image.open(write_photo(tmp_path / "images" / "a.jpg", 1, 64, 96))
    photo.getexif()[0x0112] = 6
    record = one(tmp_path, BOX)
    photo.save(tmp_path / "images" / "a.jpg", exif=photo.getexif())
    record = by_name(tmp_path)["a.jpg"]
    assert sides(record) == [(15, 20, 30, 16)]


def test_outlines_turned_boxes_confidences_and_keypoints(tmp_path: Path) -> None:
    corners = "0.25 0.25 0.5 0.25 0.5 0.75 0.25 0.5"
    record = one(tmp_path, f"0 {corners}\n")
    assert sides(record) == [(24, 16, 24, 32)]
    assert record.boxes[0].region == [[24, 16, 48, 16, 48, 48, 24, 32]]
    assert sides(one(tmp_path, f"0 {corners} 0.9\n")) == [(24, 16, 24, 32)]
    record = one(tmp_path, BOX.replace("\n", " 0.9\n"))
    assert (sides(record), record.boxes[0].note) == (
        [(15, 20, 30, 16)],
        "its confidence of 0.9 is ignored",
    )
    pose = "names: [x]\nval: images\nkpt_shape: [1, 3]\n"
    record = one(tmp_path, BOX.replace("\n", " 0.5 0.5 2\n"), pose)
    assert (sides(record), record.boxes[0].note) == (
        [(15, 20, 30, 16)],
        "its keypoints are ignored",
    )
    for seen in (1, 2):  # told by themselves, too
        record = one(tmp_path, BOX.replace("\n", f" 0.9 0.9 {seen}" * 4))
        assert sides(record) == [(15, 20, 30, 16)]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (BOX + "0 0.5 0.5 1.2 0.1", "labels/a.txt, line 2: 1.2 is not between 0 and 1"),
        ("0 10 20 30 40", "10 is not between"),
        ("0 0.5 0.5 0.1", "4 values are neither"),
        ("0 0.5 0.5 0.1 0.1 7", "the last is no confidence"),
        ("1 0.5 0.5 0.1 0.1", "unknown class 1"),
        ("-1 0.5 0.5 0.1 0.1", "unknown class -1"),
        ("0 0.5 x 0.1 0.1", "a value is 'x'"),
        ("0 nan 0.5 0.1 0.1", "a value is 'nan'"),
        ("0 0.1 0.1 0.1 0.1 0.1 0.1", "encloses nothing"),
    ],
)
def test_a_wrong_line_is_its_photos_problem(tmp_path: Path, line: str, problem: str) -> None:
    assert problem in (one(tmp_path, line).problem or "")


def test_rounding_beyond_the_edge_is_cut_off(tmp_path: Path) -> None:
    assert sides(one(tmp_path, "0 0.5 0.5 1.0005 1\n")) == [(0, 0, 96, 64)]


def test_labels_are_never_those_of_another_photo(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_photo(tmp_path / "images" / split / "a.jpg", 1)
    write(tmp_path / "labels" / "train" / "a.txt", BOX)
    records = by_name(tmp_path)
    assert [len(records[f"{split}/a.jpg"].boxes) for split in ("train", "val")] == [1, 0]
    write_photo(tmp_path / "images" / "b.jpg", 2)
    write(tmp_path / "elsewhere" / "b.txt", BOX)
    assert len(by_name(tmp_path)["b.jpg"].boxes) == 1


def test_labels_in_another_case(tmp_path: Path) -> None:
    write_photo(tmp_path / "images" / "IMG_1.JPG", 1)
    write_photo(tmp_path / "images" / "b.jpg", 2)
    write(tmp_path / "labels" / "img_1.txt", BOX)
    write(tmp_path / "labels" / "b.txt", "")
    assert sides(by_name(tmp_path)["IMG_1.JPG"]) == [(15, 20, 30, 16)]


def test_labels_of_two_photos_are_noted(tmp_path: Path) -> None:
    record = one(tmp_path, "0 0.5 0.5 0.5 0.5")
    write_photo(tmp_path / record.photo.relative_to(tmp_path).with_suffix(".png"), 2)
    notes = {name: record.notes for name, record in by_name(tmp_path).items()}
    assert notes == {"a.jpg": (), "a.png": ("its labels are also those of images/a.jpg",)}


def test_photos_that_the_settings_do_not_name_are_left_out(tmp_path: Path) -> None:
    write_photo(tmp_path / "preview.jpg", 3)
    one(tmp_path, BOX)
    reading = registry.read(tmp_path)
    assert reading.left == [("preview.jpg", "a photo that the annotations do not name")]


def test_settings_that_cannot_be_read_are_none(tmp_path: Path) -> None:
    for text in ("names: [", "[" * 5000, "names: &a [*a]\ntrain: 5\nnc: x\n", "names: {[1]: 2}"):
        record = one(tmp_path, BOX, text)
        assert (sides(record), record.kind) == ([(15, 20, 30, 16)], None)
