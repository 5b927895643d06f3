"""Exports: whole or not at all, what is lost is counted, pseudo-masks are of these photos."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_support import write_mask, write_photo
from ingest_support import SETTINGS
from pseudo_label_support import settings as teacher
from writers_support import demo, export, flat  # noqa: F401

from components.core.errors import InputError
from components.core.images import open_photo
from components.core.paths import LABELS, PREPARED, PSEUDO_LABELED, PSEUDO_MASKS
from components.data import dataset as datasets
from components.data import manifest as manifests
from components.data.build import build
from components.ingest.formats import registry
from components.ingest.importing import import_dataset
from components.ingest.merging import merge
from components.ingest.pseudo_masks import share
from components.ingest.writers import regions
from components.ingest.writers.registry import WRITERS
from components.pseudo_label.label import LABELS as COLUMNS
from components.pseudo_label.label import label_dataset


def test_what_a_format_cannot_hold_is_counted(demo: Path, tmp_path: Path) -> None:
    on_photos = {"sources of photos": 12, "origins of photos": 12}
    bare = {"kinds of photos without a box": 1, "manipulated photos without a box": 1}
    on_boxes = {"annotators of boxes": 8, "seconds spent on boxes": 8}
    region = {"boxes, where a region takes their place": 3}
    everywhere = {"true masks": 8, "licence": 1}
    expected = {
        "coco": {"true masks": 8},
        "yolo": everywhere | on_photos | bare | on_boxes | region,
        "voc": everywhere | on_photos | bare | {"parts of a pixel, of boxes": 8},
        "cvat": everywhere | on_photos | region | {"kinds of photos without a box": 1},
        "label-studio": everywhere | region | {"seconds spent on boxes": 2},
    }
    assert {name: export(demo, tmp_path / name, name).not_kept for name in WRITERS} == expected


def test_photos_are_linked_and_nothing_is_overwritten(demo: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    made = export(demo, out, "coco")
    name = made.records[0].name
    assert (out / "images" / name).stat().st_ino == (demo / "photos" / name).stat().st_ino
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    with pytest.raises(InputError, match="exists already"):
        export(demo, out, "yolo")
    with pytest.raises(InputError, match="lies in the data set"):
        export(demo, demo / "out", "yolo")
    with pytest.raises(InputError, match="unknown format 'kitti'"):
        export(demo, tmp_path / "kitti", "kitti")


def test_an_export_that_fails_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    write_photo(folder / "photos" / "a.png", 3)
    index = json.loads((folder / "boxes.json").read_text())
    index["images"].append({"id": 3, "file_name": "a.png", "label": "authentic"})
    (folder / "boxes.json").write_text(json.dumps(index))
    for format in ("yolo", "voc"):
        with pytest.raises(InputError, match="photo without its suffix 'a' is there twice"):
            export(folder, tmp_path / "place" / "out", format)
    assert not (tmp_path / "place").exists()
    assert len(export(folder, tmp_path / "out", "cvat").records) == 3


@pytest.mark.parametrize(
    ("region", "why"),
    [
        ({"size": [60, 90], "counts": [5400]}, "mask is 90x60 but the photo is 96x64"),
        ({"size": [64, 96], "counts": "Z"}, "its mask's RLE"),
        ({"size": [64, 96], "counts": [6144]}, "its mask is empty"),
        ([[200, 200, 220, 200, 220, 220]], "its outline encloses nothing of the photo"),
    ],
)
def test_a_region_that_is_none_is_named(
    folder: Path, tmp_path: Path, region: Any, why: str
) -> None:
    index = json.loads((folder / "boxes.json").read_text())
    index["annotations"][0]["segmentation"] = region
    (folder / "boxes.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=rf"a\.jpg: {why}"):
        export(folder, tmp_path / "out", "coco")


def test_regions_thinner_than_a_pixel_are_counted(folder: Path, tmp_path: Path) -> None:
    index = json.loads((folder / "boxes.json").read_text())
    thin = [[x, 20, x + 0.1, 20, x + 0.1, 20.1] for x in (10.2, 12.2)]
    index["annotations"][0]["segmentation"] = thin
    (folder / "boxes.json").write_text(json.dumps(index))
    for format in WRITERS:
        made = export(folder, tmp_path / format, format)
        assert made.not_kept["regions that cover no pixel"] == 1
        assert made.records[0].boxes[0].region is None


def test_yolo_photos_without_a_split_go_to_train_where_others_have_one(
    flat: Path, tmp_path: Path
) -> None:
    root = tmp_path / "demo"
    shutil.copytree(flat, root)
    made = datasets.load(root)
    for image in made.images[:2]:
        del image["split"]
    datasets.save(made)
    back = export(root, tmp_path / "out", "yolo")
    assert back.not_kept["photos without a split, put into train"] == 2
    reading = registry.read(tmp_path / "out")
    assert len(reading.records) == 12
    train = {record.name for record in reading.records if record.split == "train"}
    assert {image["file_name"] for image in made.images[:2]} <= train


def test_boxes_drawn_from_masks_are_exported_as_the_pipeline_draws_them(
    folder: Path, tmp_path: Path
) -> None:
    write_mask(folder / "masks" / "a.png", (10, 20, 40, 36))
    drawn = replace(datasets.load(folder), boxes="simulate", annotations=[])
    datasets.save(drawn)
    made = export(folder, tmp_path / "out", "coco")
    assert made.drawn == 1
    (box,) = made.records[0].boxes
    row = build(folder, SETTINGS)[0].boxes.iloc[0]
    assert (box.x, box.y, box.x + box.width) == (row.x0, row.y0, row.x1)


# --- pseudo-masks


@pytest.fixture
def labelled(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace whose last run has labelled a copy of the demo."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "data" / "demo"
    shutil.copytree(demo, root)
    manifest, _ = build(root, SETTINGS)
    manifests.write(PREPARED, manifest)
    label_dataset(manifest, root, teacher(), PSEUDO_LABELED, tmp_path / "cache")
    return root


@pytest.mark.parametrize("threshold", [0.5, 0.9])
def test_accepted_pseudo_masks_become_the_regions_of_boxes_without_one(
    labelled: Path, tmp_path: Path, threshold: float
) -> None:
    table = manifests.read_table(LABELS, COLUMNS)
    table.loc[0, "accepted"] = False
    manifests.write_table(LABELS, table, COLUMNS)
    before = {record.name: record for record in export(labelled, Path("plain"), "coco").records}
    made = export(labelled, Path("out"), "coco", masks=True, threshold=threshold)
    assert made.masked == len(table) - 1
    for record in made.records:
        old = before[record.name].boxes
        if record.name not in set(table["image_id"][1:]):
            assert record.boxes == old
            continue
        soft = open_photo(PSEUDO_MASKS / f"{record.name}.png")[:, :, 0]
        union = np.zeros(soft.shape, bool)
        for box, was in zip(record.boxes, old, strict=True):
            assert was.region in (None, box.region)
            if box.region and not was.region:
                union |= regions.decode(box.region, record.size)
        if not any(box.region for box in old):
            assert (union == (soft > threshold * 255)).all()


@pytest.mark.parametrize("format", WRITERS)
def test_pseudo_masks_come_back_as_the_regions_of_a_new_data_set(
    labelled: Path, tmp_path: Path, format: str
) -> None:
    made = export(labelled, Path("out"), format, masks=True)
    cards = {"name": "back", "licence": "CC0", "source_name": "test"}
    back = import_dataset(Path("out"), Path("data/back"), quarantine=True, **cards).dataset
    regions = sum(box.region is not None for record in made.records for box in record.boxes)
    assert sum("segmentation" in row for row in back.annotations) == regions > 5
    assert len(back.images) == 11 + (format in ("yolo", "voc"))  # a manipulated one has no box
    # For photos that the data set knows the boxes stay as they are; those that differ are listed.
    joined = merge(Path("out"), labelled)
    assert (joined.added, joined.dataset.annotations) == ([], datasets.load(labelled).annotations)
    assert {"known, but with other boxes"} >= {
        why for _, why in joined.rejected if why.startswith("known, but with")
    }


def test_pseudo_masks_of_other_photos_or_boxes_are_refused(labelled: Path, tmp_path: Path) -> None:
    def refused(why: str) -> None:
        with pytest.raises(InputError, match=why):
            export(labelled, Path("out"), "coco", masks=True)
        assert not Path("out").exists()

    made = datasets.load(labelled)
    first = made.annotations[0]
    photo = next(row["file_name"] for row in made.images if row["id"] == first["image_id"])
    first["bbox"][0] += 0.5
    datasets.save(made)
    refused(f"{photo} was labelled with other boxes")
    first["bbox"][0] -= 0.5
    datasets.save(made)
    data = (labelled / "photos" / photo).read_bytes()
    (labelled / "photos" / photo).write_bytes(data + b"\0")
    refused(f"{photo} is not the photo that was labelled")
    made.images[0]["file_name"] = "other.jpg"
    (labelled / "photos" / photo).rename(labelled / "photos" / "other.jpg")
    datasets.save(made)
    refused(f"pseudo-masks of another data set: {photo} is not in this one")
    shutil.rmtree("runs")
    refused("no such file")


def test_each_pixel_of_a_pseudo_mask_goes_to_the_nearest_box() -> None:
    mask = np.ones((10, 20), bool)
    boxes = np.array([[0.0, 0, 20, 10], [2, 2, 6, 6], [12, 2, 16, 6]])
    whole, left, right = share(mask, boxes)
    assert (whole.astype(int) + left + right == 1).all()
    assert left.sum() == right.sum() == 16
    two = share(mask, boxes[1:])
    assert (two[0][:, :9]).all()
    assert (two[1][:, 9:]).all()
