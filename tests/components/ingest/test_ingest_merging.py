"""Adding to a data set: new photos in, known ones once, bad ones listed, nothing half done."""

from __future__ import annotations

import csv
import json
import math
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from data_support import write_mask, write_photo
from PIL import Image

from components.core.errors import InputError
from components.core.params import Prepare
from components.data import dataset as datasets
from components.data.build import build
from components.ingest.importing import import_dataset
from components.ingest.merging import Merged, merge

OTHER_BOXES = "known, but with other boxes: --replace takes them"


def source(folder: Path, *names: str, seed: int = 1) -> Path:
    """A COCO source: the first photo is manipulated, with one box."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    images, annotations = [], []
    for number, name in enumerate(names):
        pixels = random.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
        images.append({"id": number, "file_name": name, "width": 64, "height": 48})
        if number == 0:
            box = {"bbox": [8, 8, 20, 16], "area": 320, "category_id": 1, "iscrowd": 0}
            annotations.append({"id": number, "image_id": number, **box})
    index = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "manipulated"}],
    }
    path = folder / "annotations.json"
    path.write_text(json.dumps(index))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    first = source(tmp_path / "first", "a.png", "b.png")
    made = tmp_path / "data/street"
    import_dataset(first, made, name="street", licence="CC0", source_name="desk")
    return made


def table(root: Path) -> list[list[str]]:
    with open(root / "import.csv", newline="") as file:
        return list(csv.reader(file))


def shape(made: Merged) -> tuple[list[str], int, list[str]]:
    return made.added, made.known, [name for name, _ in made.rejected]


def test_new_photos_and_their_boxes_are_added(root: Path, tmp_path: Path) -> None:
    before = datasets.load(root)
    made = merge(source(tmp_path / "second", "c.png", "d.png", seed=2), root)
    assert shape(made) == (["c.png", "d.png"], 0, [])
    after = datasets.load(root)
    assert after == made.dataset
    assert after.images[:2] == before.images
    assert after.annotations[:1] == before.annotations
    image = next(row for row in after.images if row["file_name"] == "c.png")
    assert [row["bbox"] for row in after.annotations if row["image_id"] == image["id"]] == [
        [8, 8, 20, 16]
    ]
    assert (root / "photos/c.png").read_bytes() == (tmp_path / "second/c.png").read_bytes()
    assert [path.name for path in root.parent.iterdir()] == ["street"]


def test_the_same_source_twice_adds_nothing(root: Path, tmp_path: Path) -> None:
    second = source(tmp_path / "second", "c.png", "d.png", seed=2)
    merge(second, root)
    before = (root / "boxes.json").read_bytes()
    assert shape(merge(second, root)) == ([], 2, [])
    assert (root / "boxes.json").read_bytes() == before
    assert [name for name, *_ in table(root)] == ["what", "a.png", "b.png", "c.png", "d.png"]


def test_bad_and_clashing_photos_are_listed_and_the_rest_kept(root: Path, tmp_path: Path) -> None:
    second = source(tmp_path / "second", "a.png", "c.png", "d.png", seed=2)
    (tmp_path / "second/c.png").write_bytes(b"not a photo")
    shutil.copyfile(tmp_path / "first/b.png", tmp_path / "second/d.png")
    index = json.loads(second.read_text())
    pixels = np.zeros((48, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "second/e.png")
    index["images"].append({"id": 9, "file_name": "e.png", "width": 64, "height": 48})
    second.write_text(json.dumps(index))
    made = merge(second, root)
    assert made.added == ["e.png"]
    assert {name for name, _ in made.rejected} == {"a.png", "c.png", "d.png"}
    listed = table(root)
    assert ["a.png", "left out", "there is already another photo of this name"] in listed
    assert ["d.png", "left out", "the same file as b.png"] in listed
    assert ["e.png", "taken", ""] in listed
    assert made.outcomes == [tuple(row) for row in listed[3:]]
    merge(second, root)
    assert table(root) == listed


def test_a_failed_import_leaves_nothing(tmp_path: Path) -> None:
    first = source(tmp_path / "first", "a.png")
    (tmp_path / "first/a.png").write_bytes(b"")
    with pytest.raises(InputError):
        import_dataset(first, tmp_path / "new/street", name="s", licence="x", source_name="x")
    assert [path.name for path in tmp_path.iterdir()] == ["first"]


def test_a_source_without_a_usable_photo_changes_nothing(root: Path, tmp_path: Path) -> None:
    second = source(tmp_path / "second", "c.png", seed=2)
    (tmp_path / "second/c.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"c\.png"):
        merge(second, root)
    assert len(datasets.load(root).images) == 2
    assert [path.name for path in root.parent.iterdir()] == ["street"]


def test_two_at_once_both_arrive(root: Path, tmp_path: Path) -> None:
    second = source(tmp_path / "second", "c.png", seed=2)
    third = source(tmp_path / "third", "d.png", seed=3)
    with ThreadPoolExecutor() as pool:
        later: list[Future[Merged]] = []

        def start_another(done: int, total: int) -> None:
            later.append(pool.submit(merge, third, root))
            with pytest.raises(TimeoutError):
                later[0].result(timeout=0.3)

        merge(second, root, progress=start_another)
        assert later[0].result().added == ["d.png"]
    names = [image["file_name"] for image in datasets.load(root).images]
    assert names == ["a.png", "b.png", "c.png", "d.png"]
    assert [path.name for path in root.parent.iterdir()] == ["street"]


def test_what_a_killed_one_left_is_removed(root: Path, tmp_path: Path) -> None:
    for left in (".street-k1lled_x", ".street-b-k1lled_x"):
        (root.parent / left / "photos").mkdir(parents=True)
    (root.parent / ".street.lock").touch()
    merge(source(tmp_path / "second", "c.png", seed=2), root)
    assert {path.name for path in root.parent.iterdir()} == {"street", ".street-b-k1lled_x"}


def edit(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return path


def test_a_known_photo_with_other_boxes_is_listed(root: Path, tmp_path: Path) -> None:
    first = tmp_path / "first/annotations.json"
    (box,) = json.loads(first.read_text())["annotations"]
    before = (root / "boxes.json").read_bytes()
    # Exporters round.
    assert (
        shape(merge(edit(first, annotations=[{**box, "bbox": [8.004, 8, 20, 16]}]), root))[1] == 2
    )
    made = merge(edit(first, annotations=[{**box, "bbox": [9, 8, 20, 16]}]), root)
    assert (made.known, made.rejected) == (
        1,
        [("a.png", OTHER_BOXES)],
    )
    made = merge(edit(first, annotations=[box, {**box, "id": 5, "bbox": [1, 1, 5, 5]}]), root)
    assert (made.known, made.rejected) == (
        1,
        [("a.png", OTHER_BOXES)],
    )
    made = merge(edit(first, annotations=[]), root, authentic=True)
    assert (made.known, made.rejected) == (1, [("a.png", "known, but as manipulated")])
    assert (root / "boxes.json").read_bytes() == before


def test_what_validation_would_refuse_is_not_added(root: Path, tmp_path: Path) -> None:
    second = source(tmp_path / "second", "c.png", "d.png", "e.png", seed=2)
    # One photo with a box, one with a mask alone, and one more under both labels.
    write_mask(tmp_path / "second/d_mask.png", (8, 8, 30, 30), (64, 48))
    shutil.copyfile(tmp_path / "second/e.png", tmp_path / "second/f.png")
    images = json.loads(second.read_text())["images"]
    images[1] |= {"label": "manipulated", "mask": "d_mask.png"}
    images.append({"id": 9, "file_name": "f.png", "label": "manipulated"})
    (box,) = json.loads(second.read_text())["annotations"]
    edit(second, images=images, annotations=[box, {**box, "id": 9, "image_id": 9}])
    made = merge(second, root)
    assert made.added == ["c.png", "d.png"]
    assert sorted(made.rejected) == [
        ("e.png", "the same file is in the data set with the other label"),
        ("f.png", "the same file is in the data set with the other label"),
    ]


@pytest.mark.parametrize(
    ("given", "made"),
    [
        (["train", "val", "test"], ["train", "val", "test", "train", "val"]),
        # As at the import: validation photos are carved out of train.
        (["train", "train", "test"], ["train", "train", "test", "train", "test"]),
        (["train", "train", "val"], ["train", "train", "test", "train", "test"]),
    ],
)
def test_val_means_what_it_means_in_the_data_set(
    given: list[str], made: list[str], tmp_path: Path
) -> None:
    def split(path: Path, names: list[str]) -> Path:
        images = json.loads(path.read_text())["images"]
        return edit(path, images=[{**i, "split": s} for i, s in zip(images, names, strict=True)])

    first = split(source(tmp_path / "first", "a.png", "b.png", "e.png"), given)
    root = tmp_path / "data/street"
    import_dataset(first, root, name="street", licence="CC0", source_name="desk")
    second = split(source(tmp_path / "second", "c.png", "d.png", seed=2), ["train", "val"])
    merged = merge(second, root)
    assert [image["split"] for image in merged.dataset.images] == made


def test_a_data_set_that_cannot_be_written_again_is_left_as_it_is(
    root: Path, tmp_path: Path
) -> None:
    (box,) = datasets.load(root).annotations
    edit(root / "boxes.json", annotations=[{**box, "bbox": [math.nan, 8, 20, 16]}])
    with pytest.raises(InputError, match="annotation 1: a number in it is not finite"):
        merge(source(tmp_path / "second", "c.png", seed=2), root)
    assert not (root / "photos/c.png").exists()


def test_photos_that_share_a_source_photo_share_a_group_whenever_they_come(
    casia: Path, tmp_path: Path, settings: Prepare
) -> None:
    write_photo(casia / "Au/Au_nat_0009.jpg", 110)  # not the first in name of those it belongs to
    whole = tmp_path / "whole"
    import_dataset(casia, whole, name="made", licence="CC0", source_name="desk")
    first = tmp_path / "first"
    shutil.copytree(casia / "Au", first / "Au")
    made = tmp_path / "data/made"
    import_dataset(first, made, name="made", licence="CC0", source_name="desk")
    shutil.rmtree(casia / "Au")
    merge(casia, made)
    parts = [build(root, settings)[0].images[["image_id", "group"]] for root in (whole, made)]
    pd.testing.assert_frame_equal(*parts)


def test_masks_go_into_a_data_set_of_boxes(root: Path, casia: Path, settings: Prepare) -> None:
    before = build(root, settings)[0]
    made = merge(casia, root)
    assert (len(made.added), made.rejected, made.dataset.boxes) == (7, [], "mixed")
    after = build(root, settings)[0]
    assert after.boxes["annotator"].value_counts().to_dict() == {"simulated": 4}
    kept = after.boxes[after.boxes["image_id"] == "a.png"].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, before.boxes)
    assert shape(merge(casia, root)) == ([], 7, [])


def test_boxes_go_into_a_data_set_of_masks(casia: Path, tmp_path: Path, settings: Prepare) -> None:
    made = tmp_path / "data/pairs"
    import_dataset(casia, made, name="pairs", licence="CC0", source_name="desk")
    before = build(made, settings)[0]
    merged = merge(source(tmp_path / "second", "c.png", "d.png", seed=2), made)
    assert (shape(merged), merged.dataset.boxes) == ((["c.png", "d.png"], 0, []), "mixed")
    after = build(made, settings)[0]
    (drawn,) = after.boxes[after.boxes["image_id"] == "c.png"].to_dict("records")
    assert [drawn[side] for side in ("x0", "y0", "x1", "y1")] == [8, 8, 28, 24]
    # No other photo's boxes change.
    kept = after.boxes[after.boxes["image_id"] != "c.png"].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, before.boxes)
    assert list(after.boxes["image_id"]) == sorted(after.boxes["image_id"])


def test_listed_boxes_that_do_not_count_do_not_begin_to(
    casia: Path, tmp_path: Path, settings: Prepare
) -> None:
    made = tmp_path / "data/pairs"
    import_dataset(casia, made, name="pairs", licence="CC0", source_name="desk")
    dataset = datasets.load(made)
    (first, *_) = [image for image in dataset.images if image["label"] == "manipulated"]
    box = {"id": 1, "image_id": first["id"], "category_id": 1, "bbox": [1, 1, 9, 9]}
    datasets.save(replace(dataset, annotations=[box]))
    assert set(build(made, settings)[0].boxes["annotator"]) == {"simulated"}
    with pytest.raises(InputError, match="boxes: mixed"):
        merge(source(tmp_path / "second", "c.png", seed=2), made)
    assert not (made / "photos/c.png").exists()


def test_a_known_photo_gets_the_mask_that_it_lacked(root: Path, tmp_path: Path) -> None:
    first = tmp_path / "first/annotations.json"
    images = json.loads(first.read_text())["images"]
    write_mask(tmp_path / "first/a_mask.png", (8, 8, 30, 24), (64, 48))
    edit(first, images=[{**images[0], "mask": "a_mask.png"}, images[1]])
    made = merge(first, root)
    assert (made.masked, *shape(made)) == (["a.png"], [], 2, [])
    assert made.dataset == datasets.load(root)
    assert made.dataset.boxes == "given"
    (row,) = [image for image in made.dataset.images if image["file_name"] == "a.png"]
    assert (root / row["mask"]).read_bytes() == (tmp_path / "first/a_mask.png").read_bytes()
    again = merge(first, root)
    assert (again.masked, *shape(again)) == ([], [], 2, [])

    # As folder pairs, where the photo has another name; another mask is a person's to decide.
    (tmp_path / "pairs/Tp").mkdir(parents=True)
    shutil.copy(tmp_path / "first/a.png", tmp_path / "pairs/Tp/a.png")
    write_mask(tmp_path / "pairs/Gt/a_gt.png", (9, 8, 30, 24), (64, 48))
    made = merge(tmp_path / "pairs", root)
    assert (made.masked, made.rejected) == ([], [("Tp/a.png", "known, but with another mask")])
    (tmp_path / "first/a_mask.png").unlink()  # the data set's is a hard link of it
    write_mask(tmp_path / "first/a_mask.png", (9, 8, 30, 24), (64, 48))
    assert merge(first, root).rejected == [("a.png", "known, but with another mask")]


def test_a_mask_under_another_name_is_that_of_the_same_photo(root: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs/Tp").mkdir(parents=True)
    shutil.copy(tmp_path / "first/a.png", tmp_path / "pairs/Tp/other.png")
    write_mask(tmp_path / "pairs/Gt/other_gt.png", (8, 8, 30, 24), (64, 48))
    made = merge(tmp_path / "pairs", root)
    assert (made.added, made.masked, made.rejected) == ([], ["a.png"], [])
    assert merge(tmp_path / "pairs", root).rejected == [("Tp/other.png", "the same file as a.png")]


def test_a_dry_run_of_adding_changes_nothing(root: Path, tmp_path: Path) -> None:
    second = source(tmp_path / "second", "c.png", "d.png", seed=2)
    before = {path: path.stat().st_mtime_ns for path in root.parent.rglob("*")}
    made = merge(second, root, dry_run=True)
    assert made.added == ["c.png", "d.png"]
    assert {path: path.stat().st_mtime_ns for path in root.parent.rglob("*")} == before
    again = merge(second, root)
    assert (again.added, again.outcomes, again.dataset) == (made.added, made.outcomes, made.dataset)


def test_outlines_come_with_new_photos_and_never_to_known_ones(root: Path, tmp_path: Path) -> None:
    outline = [[8.0, 8.0, 28.0, 8.0, 28.0, 24.0]]
    first = tmp_path / "first/annotations.json"
    (box,) = json.loads(first.read_text())["annotations"]
    made = merge(edit(first, annotations=[box | {"segmentation": outline}]), root)
    assert [tuple(row) for row in made.outcomes] == [
        ("a.png", "noted", "in the data set already, without its outlines"),
        ("b.png", "noted", "in the data set already"),
    ]
    second = source(tmp_path / "second", "c.png", seed=2)
    (box,) = json.loads(second.read_text())["annotations"]
    made = merge(edit(second, annotations=[box | {"segmentation": outline}]), root)
    assert [row.get("segmentation") for row in made.dataset.annotations] == [None, outline]
    assert datasets.load(root) == made.dataset


def test_the_list_of_an_old_import_stays_as_it_is(root: Path, tmp_path: Path) -> None:
    (root / "import.csv").unlink()
    (root / "quarantine.csv").write_text("photo,reason\nx.png,empty file (0 bytes)\n")
    merge(source(tmp_path / "second", "c.png", seed=2), root)
    assert (root / "quarantine.csv").read_text() == "photo,reason\nx.png,empty file (0 bytes)\n"
    assert table(root) == [["what", "outcome", "reason"], ["c.png", "taken", ""]]
