"""Adding to a data set: new photos in, known ones once, bad ones listed, nothing half done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from components.data import dataset as datasets
from components.data.importing import import_dataset
from components.data.merging import Merged, merge
from components.data.prepare import build
from components.errors import InputError
from components.params import Prepare


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
    assert not (root / "quarantine.csv").exists()


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
    listed = (root / "quarantine.csv").read_text()
    assert "a.png,another photo of this name is there" in listed
    assert "d.png,the same file as b.png" in listed
    merge(second, root)
    assert (root / "quarantine.csv").read_text() == listed


def test_a_source_without_a_usable_photo_changes_nothing(root: Path, tmp_path: Path) -> None:
    second = source(tmp_path / "second", "c.png", seed=2)
    (tmp_path / "second/c.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"c\.png"):
        merge(second, root)
    assert len(datasets.load(root).images) == 2
    assert [path.name for path in root.parent.iterdir()] == ["street"]


def test_photos_that_share_a_source_photo_share_a_group_whenever_they_come(
    casia: Path, tmp_path: Path, settings: Prepare
) -> None:
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


def test_masks_do_not_go_into_a_data_set_of_boxes(root: Path, casia: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="masks alone"):
        merge(casia, root)
    assert len(datasets.load(root).images) == 2
