from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data_support import photo_array, write_photo
from PIL import Image

from components.core.errors import InputError
from components.core.files import sha256_file
from components.core.params import Prepare
from components.data import manifest
from components.data.build import build
from components.ingest.importing import import_dataset


@pytest.fixture
def imported(casia: Path, tmp_path: Path) -> Path:
    out = tmp_path / "made"
    import_dataset(casia, out, name="made", licence="CC0", source_name="test")
    return out


def test_one_row_a_photo_with_all_that_is_known(folder: Path, settings: Prepare) -> None:
    made, quarantine = build(folder, settings)
    assert quarantine == []
    assert made.images["image_id"].tolist() == ["a.jpg", "sub/b.jpg"]
    first = made.images.iloc[0]
    assert first["path"] == "photos/a.jpg"
    assert first["sha256"] == sha256_file(folder / "photos" / "a.jpg")
    assert (first["width"], first["height"], first["n_boxes"]) == (96, 64, 1)
    assert first["mask_sha256"] == sha256_file(folder / "masks" / "a.png")
    assert (first["mask_width"], first["mask_height"]) == (96, 64)
    assert (first["label"], first["source"], first["group"]) == ("manipulated", "test", "a.jpg")
    second = made.images.iloc[1]
    assert pd.isna(second["mask_path"])
    assert pd.isna(second["kind"])
    assert second["n_boxes"] == 0
    box = made.boxes.iloc[0]
    assert box[["image_id", "x0", "y0", "x1", "y1"]].tolist() == ["a.jpg", 10, 20, 40, 36]


def test_the_manifest_is_what_comes_back_from_disk(
    imported: Path, settings: Prepare, tmp_path: Path
) -> None:
    made, _ = build(imported, settings)
    manifest.write(tmp_path / "out", made)
    again = manifest.read(tmp_path / "out")
    pd.testing.assert_frame_equal(made.images, again.images)
    pd.testing.assert_frame_equal(made.boxes, again.boxes)


def test_equal_files_give_equal_bytes(imported: Path, settings: Prepare, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / imported.name
    shutil.copytree(imported, copy)
    for number, root in enumerate((imported, copy)):
        manifest.write(tmp_path / str(number), build(root, settings)[0])
    for name in ("manifest.parquet", "boxes.parquet"):
        assert sha256_file(tmp_path / "0" / name) == sha256_file(tmp_path / "1" / name)


def test_boxes_are_simulated_around_the_mask(imported: Path, settings: Prepare) -> None:
    made, _ = build(imported, settings)
    assert len(made.boxes) == 4
    assert set(made.boxes["annotator"]) == {"simulated"}
    name = "Sp/Sp_D_NRN_R_pla0002_nat0009_0002.jpg"
    x0, y0, x1, y1 = made.boxes.set_index("image_id").loc[name, ["x0", "y0", "x1", "y1"]]
    tight = (11, 20, 50, 44)
    assert tight[0] - 3.9 <= x0 < tight[0]
    assert tight[1] - 2.4 <= y0 < tight[1]
    assert tight[2] < x1 <= tight[2] + 3.9
    assert tight[3] < y1 <= tight[3] + 2.4
    exact, _ = build(imported, settings.model_copy(update={"jitter": 0.0}))
    found = exact.boxes.set_index("image_id").loc[name, ["x0", "y0", "x1", "y1"]]
    assert tuple(found) == tight


def test_near_duplicates_share_a_group_and_a_split(folder: Path, settings: Prepare) -> None:
    index = json.loads((folder / "boxes.json").read_text())
    for number in range(3, 23):
        write_photo(folder / "photos" / f"{number}.jpg", number)
        index["images"].append({"id": number, "file_name": f"{number}.jpg", "label": "authentic"})
    Image.fromarray(photo_array(5)).save(folder / "photos" / "copy.png")
    index["images"].append({"id": 99, "file_name": "copy.png", "label": "authentic"})
    (folder / "boxes.json").write_text(json.dumps(index))
    images = build(folder, settings)[0].images.set_index("image_id")
    assert images.loc["copy.png", "group"] == images.loc["5.jpg", "group"] == "5.jpg"
    assert images["group"].nunique() == 22
    assert images.groupby("group")["split"].nunique().max() == 1
    apart = build(folder, settings.model_copy(update={"near_duplicate_bits": 0}))[0].images
    assert apart["group"].nunique() >= 22


def test_flat_photos_have_no_hash_and_groups_of_their_own(
    folder: Path, settings: Prepare, tmp_path: Path
) -> None:
    index = json.loads((folder / "boxes.json").read_text())
    for number, grey in enumerate((0, 1, 200, 255)):
        name = f"flat{number}.png"
        Image.new("RGB", (96, 64), (grey, grey, grey)).save(folder / "photos" / name)
        index["images"].append({"id": 90 + number, "file_name": name, "label": "authentic"})
    (folder / "boxes.json").write_text(json.dumps(index))
    made, _ = build(folder, settings)
    manifest.write(tmp_path, made)
    rows = manifest.read(tmp_path).images.set_index("image_id")
    flat = rows[rows.index.str.startswith("flat")]
    assert flat["phash"].isna().all()
    assert (flat["group"] == flat.index).all()
    assert rows["phash"].notna().sum() == len(rows) - 4 > 0


def test_unusable_photos_are_left_out_and_named(imported: Path, settings: Prepare) -> None:
    photo = imported / "photos" / "Au" / "Au_ani_0001.jpg"
    data = photo.read_bytes()
    photo.unlink()  # it is a hard link to the source
    photo.write_bytes(data[:-400])
    mask = imported / "masks" / "Sp" / "Sp_S_NNN_A_cha0006_cha0006_0004.png"
    mask.unlink()
    mask.write_bytes(b"")
    made, quarantine = build(imported, settings)
    assert [row.photo for row in quarantine] == [
        "Au/Au_ani_0001.jpg",
        "Sp/Sp_S_NNN_A_cha0006_cha0006_0004.jpg",
    ]
    assert "truncated" in quarantine[0].reason
    assert quarantine[1].reason == "mask empty file (0 bytes)"
    assert len(made.images) == 5
    assert set(made.boxes["image_id"]) <= set(made.images["image_id"])


def test_nothing_usable_gives_empty_tables(folder: Path, settings: Prepare) -> None:
    for path in (folder / "photos").rglob("*.jpg"):
        path.write_bytes(b"")
    made, quarantine = build(folder, settings)
    assert (len(made.images), len(made.boxes), len(quarantine)) == (0, 0, 2)


def test_a_bad_box_reaches_validation_as_it_is(folder: Path, settings: Prepare) -> None:
    index = json.loads((folder / "boxes.json").read_text())
    index["annotations"][0]["bbox"] = [float("nan"), 5, -3, 500]
    (folder / "boxes.json").write_text(json.dumps(index))
    box = build(folder, settings)[0].boxes.iloc[0]
    assert np.isnan(box["x0"])
    assert (box["y0"], box["y1"]) == (5, 505)


def test_given_splits_are_used_only_where_the_card_says_so(folder: Path, settings: Prepare) -> None:
    index = json.loads((folder / "boxes.json").read_text())
    for image, split in zip(index["images"], ("val", "test"), strict=True):
        image["split"] = split
    (folder / "boxes.json").write_text(json.dumps(index))
    card = folder / "dataset.yaml"
    card.write_text(card.read_text().replace("split: grouped", "split: given"))
    assert build(folder, settings)[0].images["split"].tolist() == ["val", "test"]


def test_progress_ends_at_the_number_of_photos(imported: Path, settings: Prepare) -> None:
    seen: list[tuple[int, int]] = []
    build(imported, settings, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (7, 7)


def test_a_folder_that_is_none_is_refused(tmp_path: Path, settings: Prepare) -> None:
    with pytest.raises(InputError, match="no such data set"):
        build(tmp_path / "none", settings)
