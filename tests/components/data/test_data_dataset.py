from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.core.errors import InputError
from components.data import dataset


def edit(folder: Path, **changes: Any) -> None:
    index = json.loads((folder / "boxes.json").read_text())
    (folder / "boxes.json").write_text(json.dumps({**index, **changes}))


def images(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "boxes.json").read_text())["images"]


def test_a_folder_is_read_and_written_back_unchanged(folder: Path) -> None:
    first = dataset.load(folder)
    assert (first.name, first.licence, first.boxes, first.split) == (
        "made",
        "CC0",
        "given",
        "grouped",
    )
    assert [image["file_name"] for image in first.images] == ["a.jpg", "sub/b.jpg"]
    dataset.save(replace(first, description="two photos"))
    again = dataset.load(folder)
    assert again == replace(first, description="two photos")
    index = json.loads((folder / "boxes.json").read_text())
    assert index["categories"] == [{"id": 1, "name": "manipulated"}]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"id": 2}, "id 2 is there twice"),
        ({"id": None}, "id is None"),
        ({"file_name": "sub/b.jpg"}, "'sub/b.jpg' is there twice"),
        ({"file_name": "../../etc/passwd"}, "leaves this folder"),
        ({"file_name": "/etc/passwd"}, "no such file|leaves"),
        ({"file_name": "sub/../a.jpg"}, "not a plain relative path"),
        ({"file_name": "\udce9.jpg"}, "not a plain relative path"),
        ({"file_name": "gone.jpg"}, "photos/gone.jpg: no such file"),
        ({"mask": "../secret.png"}, "leaves this folder"),
        ({"mask": "masks/gone.png"}, "masks/gone.png: no such file"),
        ({"mask": 7}, "mask is not text"),
        ({"source": "\udce9"}, "source is not text"),
        ({"origins": "b.jpg"}, "origins is not a list of texts"),
        ({"origins": [5]}, "origins is not a list of texts"),
        ({"file_name": "x" * 300}, "no such file"),
        ({"label": "fake"}, "label 'fake'"),
        ({"split": "holdout"}, "split 'holdout'"),
    ],
)
def test_a_wrong_image_is_named(folder: Path, change: dict[str, Any], complaint: str) -> None:
    rows = images(folder)
    rows[0].update(change)
    edit(folder, images=rows)
    with pytest.raises(InputError, match=complaint):
        dataset.load(folder)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"images": []}, "no photos"),
        ({"images": {}}, "images: not a list"),
        ({"annotations": None}, "annotations: not a list"),
        ({"annotations": [{"id": 1, "image_id": 9, "bbox": [0, 0, 1, 1]}]}, "unknown image id 9"),
        ({"annotations": [{"id": 1, "image_id": [1], "bbox": [0, 0, 1, 1]}]}, "unknown image id"),
        ({"annotations": [{"id": 1, "image_id": 1, "bbox": [0, 0, 1]}]}, "not 4 numbers"),
        ({"annotations": [{"id": 1, "image_id": 1, "bbox": [0, 0, "1", 2]}]}, "not 4 numbers"),
        ({"annotations": [{"id": 1, "image_id": 1, "bbox": [0, 0, True, 2]}]}, "not 4 numbers"),
        ({"annotations": [{"id": 1, "image_id": 1, "bbox": [0, 0, 10**400, 2]}]}, "not 4 numbers"),
        ({"annotations": [{"id": 1, "image_id": 1, "bbox": [0, 0, 1, 2], "annotator": 5}]},
         "annotation 1: annotator is not text"),
        ({"annotations": [{"id": 1, "image_id": 1, "bbox": [0, 0, 1, 2], "seconds": "6"}]},
         "annotation 1: seconds is not a number"),
    ],
)  # fmt: skip
def test_a_wrong_index_is_refused(folder: Path, changes: dict[str, Any], complaint: str) -> None:
    edit(folder, **changes)
    with pytest.raises(InputError, match=complaint):
        dataset.load(folder)


def test_duplicate_annotation_ids_are_refused(folder: Path) -> None:
    row = {"id": 1, "image_id": 1, "bbox": [0, 0, 1, 1]}
    edit(folder, annotations=[row, row])
    with pytest.raises(InputError, match="annotations: id 1 is there twice"):
        dataset.load(folder)


@pytest.mark.parametrize(
    "values",
    [
        {"bbox": [0, float("nan"), 1, 1]},
        {"bbox": [0, 0, 1, 1], "segmentation": [[0, 0, 1, float("nan"), 1, 1]]},
    ],
)
def test_a_nan_is_left_to_validation(folder: Path, values: dict[str, Any]) -> None:
    edit(folder, annotations=[{"id": 1, "image_id": 1, **values}])
    loaded = dataset.load(folder)
    assert loaded.annotations[0]["bbox"][2] == 1
    before = (folder / "boxes.json").read_bytes()
    with pytest.raises(InputError, match="annotation 1: a number in it is not finite"):
        dataset.save(loaded)
    assert (folder / "boxes.json").read_bytes() == before


@pytest.mark.parametrize("change", [{"kind": 5}, {"source": 7}, {"label": "fake"}, {"id": 2}])
def test_what_could_not_be_loaded_is_not_written(folder: Path, change: dict[str, Any]) -> None:
    first = dataset.load(folder)
    first.images[0].update(change)
    if "id" in change:
        first.images.pop()
    with pytest.raises(InputError):
        dataset.save(first)
    assert dataset.load(folder).images[0]["id"] == 1


def test_a_link_out_of_the_folder_is_refused_and_one_within_is_not(folder: Path) -> None:
    photo = folder / "photos" / "a.jpg"
    photo.rename(folder / "photos" / "real.jpg")
    photo.symlink_to("real.jpg")
    assert len(dataset.load(folder).images) == 2
    photo.unlink()
    photo.symlink_to("/etc/hostname")
    with pytest.raises(InputError, match="leaves this folder"):
        dataset.load(folder)


def test_a_linked_folder_that_leads_out_is_refused(folder: Path, tmp_path: Path) -> None:
    os.rename(folder / "photos" / "sub", tmp_path / "outside")
    (folder / "photos" / "sub").symlink_to(tmp_path / "outside")
    with pytest.raises(InputError, match="leaves this folder"):
        dataset.load(folder)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"boxes": "drawn"}, "boxes: 'drawn' is not given or simulate"),
        ({"split": "random"}, "split: 'random' is not given or grouped"),
        ({"licence": None}, "licence: missing"),
        ({"name": 5}, "name: missing or not text"),
    ],
)
def test_a_wrong_card_is_refused(folder: Path, change: dict[str, Any], complaint: str) -> None:
    card = yaml.safe_load((folder / "dataset.yaml").read_text())
    (folder / "dataset.yaml").write_text(yaml.safe_dump({**card, **change}))
    with pytest.raises(InputError, match=complaint):
        dataset.load(folder)


def test_what_is_no_data_set_is_said_to_be_none(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InputError, match="no such data set"):
        dataset.load(tmp_path / "none")
    (folder / "boxes.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        dataset.load(folder)
    (folder / "dataset.yaml").write_text("- a list")
    with pytest.raises(InputError, match="not a mapping"):
        dataset.load(folder)
    (folder / "dataset.yaml").unlink()
    with pytest.raises(InputError, match=r"dataset\.yaml: no such file"):
        dataset.load(folder)
