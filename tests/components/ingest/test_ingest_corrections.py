"""Corrections: what was changed in a tool's file comes back, all else stays as it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from data_support import write_mask, write_photo
from writers_support import FORMATS, demo, export, flat  # noqa: F401

from components.core.errors import InputError
from components.data import dataset as datasets
from components.data.dataset import Dataset
from components.ingest.importing import import_dataset
from components.ingest.merging import Merged, merge
from components.ingest.outcomes import USED

PHOTO, WIDTH, MOVED = "deep/same.jpg", 96, 3
AGAIN = "in the data set already"


def _coco(out: Path) -> None:
    for file in (out / "annotations").iterdir():
        index = json.loads(file.read_text())
        ids = {row["id"] for row in index["images"] if row["file_name"] == PHOTO}
        for row in index["annotations"]:
            row["bbox"][0] += MOVED * (row["image_id"] in ids)
        file.write_text(json.dumps(index))


def _yolo(out: Path) -> None:
    (file,) = out.glob(f"labels/*/{PHOTO.replace('.jpg', '.txt')}")
    number, x, *rest = file.read_text().split()
    file.write_text(" ".join([number, str(float(x) + MOVED / WIDTH), *rest]))


def _shifted(file: Path, path: str, *keys: str) -> None:
    tree = ElementTree.parse(file)
    for element in tree.iterfind(path):
        for key in keys:
            side = element.find(key)
            if side is None:
                element.set(key, str(float(element.get(key, "")) + MOVED))
            else:
                side.text = str(int(side.text or "") + MOVED)
    tree.write(file)


def _voc(out: Path) -> None:
    file = out / "Annotations" / PHOTO.replace(".jpg", ".xml")
    _shifted(file, "object/bndbox", "xmin", "xmax")


def _cvat(out: Path) -> None:
    _shifted(out / "annotations.xml", f"image[@name='{PHOTO}']/box", "xtl", "xbr")


def _label_studio(out: Path) -> None:
    tasks = json.loads((out / "tasks.json").read_text())
    (task,) = [task for task in tasks if task["data"]["image"].endswith(f"images/{PHOTO}")]
    (box,) = [row for row in task["annotations"][0]["result"] if "x" in row["value"]]
    box["value"]["x"] += 100 * MOVED / WIDTH
    (out / "tasks.json").write_text(json.dumps(tasks))


MOVE: dict[str, Callable[[Path], None]] = {
    "coco": _coco,
    "yolo": _yolo,
    "voc": _voc,
    "cvat": _cvat,
    "label-studio": _label_studio,
}


@pytest.fixture
def root(demo: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo, tmp_path / "data" / "demo"))


def rows(dataset: Dataset, name: str) -> list[dict[str, Any]]:
    (number,) = [image["id"] for image in dataset.images if image["file_name"] == name]
    return [row for row in dataset.annotations if row["image_id"] == number]


def files(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def notes(made: Merged) -> list[str]:
    return [row.reason for row in made.outcomes if not row.reason.startswith((AGAIN, USED))]


@pytest.mark.parametrize("format", FORMATS)
def test_a_box_corrected_in_any_format_is_all_that_changes(
    root: Path, tmp_path: Path, format: str
) -> None:
    before = datasets.load(root)
    (old,) = rows(before, PHOTO)
    export(root, tmp_path / "out", format)
    assert merge(tmp_path / "out", root, replaces=True).replaced == []
    MOVE[format](tmp_path / "out")

    unchanged = files(root)
    tried = merge(tmp_path / "out", root, replaces=True, dry_run=True)
    assert files(root) == unchanged
    made = merge(tmp_path / "out", root, replaces=True)
    assert made == tried
    assert (made.added, made.masked, made.replaced) == ([], [], [PHOTO])
    # A manipulated photo without a box cannot come back from any tool.
    assert (made.known, len(made.rejected)) == (10, 1)
    assert (PHOTO, "noted", "boxes replaced: 1 instead of 1") in made.outcomes
    assert f"{PHOTO},noted,boxes replaced: 1 instead of 1\n" in (root / "import.csv").read_text()

    after = datasets.load(root)
    assert (after.images, after.boxes, after.split) == (before.images, before.boxes, before.split)
    for image in after.images:
        if image["file_name"] != PHOTO:
            assert rows(after, image["file_name"]) == rows(before, image["file_name"])
    (new,) = rows(after, PHOTO)
    x, *rest = old["bbox"]
    off = 1.0 if format == "voc" else 1e-4
    assert np.abs(np.subtract(new["bbox"], [x + MOVED, *rest])).max() <= off
    if format != "yolo":
        assert (new["annotator"], new["seconds"]) == (old["annotator"], old["seconds"])

    now = files(root)
    again = merge(tmp_path / "out", root, replaces=True)
    assert (again.added, again.masked, again.replaced, again.known) == ([], [], [], 11)
    assert files(root) == now


# --- a data set of boxes alone, corrected as COCO


@pytest.fixture
def drawn(tmp_path: Path) -> Callable[..., Path]:
    """A COCO source of three photos; the arguments are the boxes of each."""

    def make(*boxes: list[list[float]], folder: str = "source", **keys: Any) -> Path:
        shutil.rmtree(tmp_path / folder, ignore_errors=True)
        images, annotations = [], []
        for number, some in enumerate(boxes):
            name = f"{'abc'[number]}.jpg"
            write_photo(tmp_path / folder / name, number)
            images.append({"id": number, "file_name": name, **keys.get("abc"[number], {})})
            annotations += [{"image_id": number, "category_id": 1, "bbox": box} for box in some]
        for number, row in enumerate(annotations):
            row |= {"id": number, **keys.get("credit", {})}
        index = {"images": images, "annotations": annotations}
        index["categories"] = [{"id": 1, "name": "splice"}]
        (tmp_path / folder / "annotations.json").write_text(json.dumps(index))
        return tmp_path / folder

    return make


ONE, TWO, THREE = [8.0, 8.0, 20.0, 16.0], [40.0, 20.0, 12.0, 12.0], [60.0, 4.0, 9.0, 9.0]


@pytest.fixture
def made(drawn: Callable[..., Path], tmp_path: Path) -> Path:
    root = tmp_path / "data" / "street"
    source = drawn([ONE, TWO, THREE], [TWO], [], credit={"annotator": "ann", "seconds": 4.0})
    import_dataset(source, root, name="street", licence="CC0", source_name="desk")
    return root


def test_without_replace_other_boxes_are_left_out_with_the_way_to_take_them(
    made: Path, drawn: Callable[..., Path]
) -> None:
    before = files(made)
    joined = merge(drawn([ONE, TWO], [TWO], []), made)
    assert joined.rejected == [("a.jpg", "known, but with other boxes: --replace takes them")]
    assert files(made) == before


def test_boxes_that_stay_keep_their_row_and_those_that_went_are_gone(
    made: Path, drawn: Callable[..., Path]
) -> None:
    before = datasets.load(made)
    joined = merge(drawn([THREE, ONE]), made, replaces=True)
    assert notes(joined) == ["boxes replaced: 2 instead of 3"]
    first, _, third = rows(before, "a.jpg")
    assert rows(datasets.load(made), "a.jpg") == [third, first]
    # Photos that the source does not name stay.
    assert rows(datasets.load(made), "b.jpg") == rows(before, "b.jpg")
    assert datasets.load(made).images == before.images
    merge(drawn([ONE, THREE, [1.0, 1.0, 5.0, 5.0]]), made, replaces=True)
    assert [row["id"] for row in rows(datasets.load(made), "a.jpg")] == [1, 3, 5]


def test_who_drew_and_outlines_come_from_the_source(made: Path, drawn: Callable[..., Path]) -> None:
    ring = [[8.0, 8.0, 28.0, 8.0, 28.0, 24.0]]
    same = ([ONE, TWO, THREE], [TWO], [])
    joined = merge(drawn(*same, credit={"annotator": "bob"}), made, replaces=True)
    assert notes(joined) == 2 * ["annotators or seconds replaced"]
    assert {(r["annotator"], r["seconds"]) for r in joined.dataset.annotations} == {("bob", 4.0)}
    joined = merge(drawn([ONE], credit={"segmentation": ring}), made, replaces=True)
    assert notes(joined) == ["boxes replaced: 1 instead of 3"]
    within_a_pixel = [[8.5, *ring[0][1:]]]
    joined = merge(drawn([ONE], credit={"segmentation": within_a_pixel}), made, replaces=True)
    assert (joined.replaced, joined.known) == ([], 1)
    wider = [[*ring[0], 8.0, 24.0]]
    joined = merge(drawn([ONE], credit={"segmentation": wider}), made, replaces=True)
    assert notes(joined) == ["outlines replaced"]
    assert rows(joined.dataset, "a.jpg")[0]["segmentation"] == wider
    assert notes(merge(drawn([ONE]), made, replaces=True)) == ["outlines replaced"]
    (row,) = rows(datasets.load(made), "a.jpg")
    assert (row["id"], row["annotator"], "segmentation" in row) == (1, "bob", False)


def test_a_label_changes_with_the_boxes(made: Path, drawn: Callable[..., Path]) -> None:
    images = datasets.load(made).images
    images[0] |= {"split": "test", "origins": ["o"], "group": "g"}
    datasets.save(replace(datasets.load(made), images=images, split="given"))
    joined = merge(drawn([], [TWO], [ONE]), made, replaces=True)
    assert notes(joined) == [
        "label and boxes replaced: authentic instead of manipulated",
        "label and boxes replaced: manipulated instead of authentic",
    ]
    first, _, third = datasets.load(made).images
    assert (first["label"], "kind" in first) == ("authentic", False)
    assert (first["split"], first["origins"], first["group"]) == ("test", ["o"], "g")
    assert (third["label"], third["kind"]) == ("manipulated", "splice")
    now = files(made)
    assert merge(drawn([], [TWO], [ONE]), made, replaces=True).known == 3
    assert files(made) == now


def test_a_photo_with_a_true_mask_does_not_become_authentic(
    made: Path, drawn: Callable[..., Path]
) -> None:
    source = drawn([ONE, TWO, THREE], [TWO], [], a={"mask": "a.png"})
    write_mask(source / "a.png", (8, 8, 30, 24), (96, 64))
    assert merge(source, made).masked == ["a.jpg"]
    before = files(made)
    joined = merge(drawn([], [TWO]), made, replaces=True)
    assert joined.rejected == [("a.jpg", "authentic now, but known with a true mask")]
    joined = merge(drawn([], [TWO], a={"label": "manipulated"}), made, replaces=True)
    assert joined.rejected == [("a.jpg", "manipulated, but has neither box nor mask")]
    other = drawn([ONE], a={"mask": "a.png"})
    write_mask(other / "a.png", (9, 8, 30, 24), (96, 64))
    joined = merge(other, made, replaces=True)
    assert joined.rejected == [("a.jpg", "known, but with another mask")]
    assert files(made) == before
    # Its boxes are corrected, with its mask or without; a mask alone says nothing of boxes.
    shutil.copy(made / datasets.load(made).images[0]["mask"], other / "a.png")
    assert merge(other, made, replaces=True).replaced == ["a.jpg"]
    alone = drawn([], [TWO], a={"mask": "a.png", "label": "manipulated"})
    shutil.copy(made / datasets.load(made).images[0]["mask"], alone / "a.png")
    assert merge(alone, made, replaces=True).replaced == []


def test_a_mask_for_a_photo_thought_authentic_has_its_boxes_drawn(
    made: Path, drawn: Callable[..., Path]
) -> None:
    source = drawn([ONE], [TWO], [], c={"mask": "c.png", "label": "manipulated"})
    write_mask(source / "c.png", (8, 8, 30, 24), (96, 64))
    joined = merge(source, made, replaces=True)
    assert (joined.masked, joined.replaced) == (["c.jpg"], ["a.jpg", "c.jpg"])
    assert joined.dataset == datasets.load(made)
    third = joined.dataset.images[2]
    assert (joined.dataset.boxes, joined.dataset.drawn()) == ("mixed", {third["id"]})
    assert third["mask"]
    assert merge(source, made, replaces=True).replaced == []


def test_a_renamed_photo_is_known_by_its_bytes(made: Path, drawn: Callable[..., Path]) -> None:
    source = drawn([ONE], [TWO], [])
    for old, new in (("a", "z"), ("b", "y")):
        (source / f"{old}.jpg").rename(source / f"{new}.jpg")
        index = (source / "annotations.json").read_text()
        (source / "annotations.json").write_text(index.replace(f"{old}.jpg", f"{new}.jpg"))
    joined = merge(source, made, replaces=True)
    assert (joined.added, joined.replaced, joined.known) == ([], ["a.jpg"], 2)
    assert notes(joined) == ["boxes replaced: 1 instead of 3; in the data set it is a.jpg"]
    told = {row.what: row.reason for row in joined.outcomes}
    assert told["y.jpg"] == f"{AGAIN}; in the data set it is b.jpg"


def test_equal_photos_keep_their_own_boxes(drawn: Callable[..., Path], tmp_path: Path) -> None:
    root = tmp_path / "data" / "street"
    source = drawn([ONE], [TWO], [])
    shutil.copy(source / "a.jpg", source / "b.jpg")
    import_dataset(source, root, name="street", licence="CC0", source_name="desk")
    assert merge(source, root, replaces=True).replaced == []
    source = drawn([ONE], [THREE], [])
    shutil.copy(source / "a.jpg", source / "b.jpg")
    assert merge(source, root, replaces=True).replaced == ["b.jpg"]
    # A copy under a third name does not decide.
    source = drawn([ONE], [THREE], [TWO])
    for copy in ("b.jpg", "0.jpg"):
        shutil.copy(source / "a.jpg", source / copy)
    index = (source / "annotations.json").read_text()
    (source / "annotations.json").write_text(index.replace("c.jpg", "0.jpg"))
    joined = merge(source, root, replaces=True)
    assert (joined.replaced, joined.rejected) == ([], [("0.jpg", "the same file as a.jpg")])


def test_other_bytes_of_the_same_name_are_left_out_and_new_photos_added(
    made: Path, drawn: Callable[..., Path]
) -> None:
    source = drawn([ONE], [TWO], [])
    write_photo(source / "a.jpg", 77)
    (source / "b.jpg").rename(source / "new.jpg")
    write_photo(source / "new.jpg", 78)
    index = (source / "annotations.json").read_text()
    (source / "annotations.json").write_text(index.replace("b.jpg", "new.jpg"))
    joined = merge(source, made, replaces=True)
    assert joined.rejected == [("a.jpg", "there is already another photo of this name")]
    assert (joined.added, joined.replaced) == (["new.jpg"], [])
    numbers = [row["id"] for row in joined.dataset.annotations]
    assert numbers == [1, 2, 3, 4, 5]


def test_a_data_set_of_masks_takes_boxes(casia: Path, tmp_path: Path) -> None:
    root = tmp_path / "data" / "pairs"
    import_dataset(casia, root, name="pairs", licence="CC0", source_name="desk")
    made = export(root, tmp_path / "out", "coco")
    assert made.drawn == 4
    assert merge(tmp_path / "out", root).rejected  # its boxes are drawn, the index has none
    joined = merge(tmp_path / "out", root, replaces=True)
    assert (len(joined.replaced), joined.dataset.boxes, joined.known) == (4, "mixed", 3)
    assert joined.dataset.drawn() == set()
    now = files(root)
    assert merge(tmp_path / "out", root, replaces=True).replaced == []
    assert files(root) == now
    # Boxes that are listed and ignored do not begin to count.
    datasets.save(replace(joined.dataset, boxes="simulate"))
    index = json.loads(next((tmp_path / "out/annotations").iterdir()).read_text())
    index["annotations"][0]["bbox"][2] -= 3
    next((tmp_path / "out/annotations").iterdir()).write_text(json.dumps(index))
    with pytest.raises(InputError, match="boxes: mixed"):
        merge(tmp_path / "out", root, replaces=True)


def test_a_box_moved_round_an_unchanged_outline_is_taken(
    made: Path, drawn: Callable[..., Path]
) -> None:
    ring = [[10.0, 10.0, 20.0, 10.0, 20.0, 20.0]]
    credit = {"segmentation": ring}
    assert merge(drawn([ONE], credit=credit), made, replaces=True).replaced == ["a.jpg"]
    moved = [7.0, *ONE[1:]]
    joined = merge(drawn([moved], credit=credit), made, replaces=True)
    assert rows(joined.dataset, "a.jpg")[0]["bbox"] == moved
    # The box round an outline, as tools write it that keep no other, is none of its own.
    joined = merge(drawn([[10.0, 10.0, 10.0, 10.0]], credit=credit), made, replaces=True)
    assert (joined.replaced, joined.known) == ([], 1)
    # A part of it goes, or comes: the outline is another.
    parts = [ring[0], [10.0, 10.0, 20.0, 20.0, 10.0, 20.0]]
    for outline in (parts, ring):
        joined = merge(drawn([moved], credit={"segmentation": outline}), made, replaces=True)
        assert notes(joined) == ["outlines replaced"]
        assert rows(joined.dataset, "a.jpg")[0]["segmentation"] == outline


def test_seconds_are_taken_and_the_same_box_twice_is_two(
    made: Path, drawn: Callable[..., Path]
) -> None:
    assert notes(merge(drawn([ONE, ONE, TWO, THREE]), made, replaces=True)) == [
        "boxes replaced: 4 instead of 3"
    ]
    joined = merge(drawn([ONE, ONE, TWO, THREE], credit={"seconds": 0.1}), made, replaces=True)
    assert notes(joined) == ["annotators or seconds replaced"]
    assert {row["seconds"] for row in rows(joined.dataset, "a.jpg")} == {0.1}
    shared = {"seconds": 3 * 0.1 / 3}  # as a tool that knows the sum gives it back
    assert shared["seconds"] != 0.1
    joined = merge(drawn([ONE, ONE, TWO, THREE], credit=shared), made, replaces=True)
    assert joined.replaced == []


def test_what_the_reader_made_of_a_corrected_box_is_told(
    made: Path, drawn: Callable[..., Path]
) -> None:
    source = drawn([ONE], credit={"attributes": {"rotation": 30.0}})
    told = ["the upright box of one turned by 30 degrees", "boxes replaced: 1 instead of 3"]
    assert notes(merge(source, made, replaces=True)) == told
    assert notes(merge(source, made, replaces=True)) == []
