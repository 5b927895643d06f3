from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_support import Coco, coco_index, write_mask, write_photo
from PIL import Image

from components.core import images
from components.core.errors import InputError
from components.core.files import sha256_bytes
from components.core.params import Prepare
from components.data import dataset as datasets
from components.data.build import build
from components.ingest.formats.casia import origins as casia_origins
from components.ingest.importing import Imported, import_dataset
from components.ingest.merging import merge
from components.ingest.outcomes import USED

FIRST = "Sp_D_CNN_A_ani0001_pla0002_0001"


def bring_in(source: Path, out: Path, **options: Any) -> Imported:
    options = {"name": "made", "licence": "CC0", "source_name": "test", **options}
    return import_dataset(source, out, **options)


def rows(out: Path) -> dict[str, dict[str, Any]]:
    return {image["file_name"]: image for image in datasets.load(out).images}


def table(out: Path) -> dict[str, tuple[str, str]]:
    """What became of everything, by its name."""
    with open(out / "import.csv", newline="") as file:
        head, *found = csv.reader(file)
    assert head == ["what", "outcome", "reason"]
    assert len({what for what, *_ in found}) == len(found)
    return {what: (outcome, reason) for what, outcome, reason in found}


def one_bad(box: list[Any]) -> dict[str, Any]:
    return {"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": box}]}


def test_folders_become_a_data_set(casia: Path, tmp_path: Path) -> None:
    out = tmp_path / "data" / "made"
    made = bring_in(casia, out)
    loaded = datasets.load(out)
    assert loaded == made.dataset
    assert (loaded.boxes, loaded.split, loaded.annotations) == ("simulate", "grouped", [])
    image = rows(out)[f"Sp/{FIRST}.jpg"]
    assert image["mask"] == f"masks/Sp/{FIRST}.png"
    assert (image["width"], image["height"], image["kind"]) == (96, 64, "splice/free")
    photo = out / "photos" / "Sp" / f"{FIRST}.jpg"
    assert photo.read_bytes() == (casia / "Sp" / f"{FIRST}.jpg").read_bytes()
    assert photo.stat().st_ino == (casia / "Sp" / f"{FIRST}.jpg").stat().st_ino
    assert sorted(path.name for path in out.iterdir()) == [
        *("boxes.json", "dataset.yaml", "import.csv", "masks", "photos")
    ]
    assert [path.name for path in out.parent.iterdir()] == ["made"]


def test_photos_that_share_a_source_photo_share_a_group(
    casia: Path, tmp_path: Path, settings: Prepare
) -> None:
    bring_in(casia, tmp_path / "out")
    made = build(tmp_path / "out", settings)[0].images
    groups = {
        name.split("/")[1][:14]: group
        for name, group in zip(made["image_id"], made["group"], strict=True)
    }
    # ani0001 - pla0002 - nat0009 are chained by two splices; the authentic ani0001 joins them.
    assert (
        groups["Sp_D_CNN_A_ani"]
        == groups["Sp_D_NRN_R_pla"]
        == groups["Au_ani_0001.jp"]
        == "ani0001"
    )
    assert groups["Sp_S_NNN_C_sec"] == groups["Au_sec_0005.jp"] == "sec0005"
    assert groups["Au_txt_0008.JP"] == "txt0008"


def test_held_back_val_becomes_test_only_where_no_test_is_given(
    casia: Path, tmp_path: Path
) -> None:
    photos = sorted(
        p.relative_to(casia).as_posix() for d in ("Sp", "Au") for p in (casia / d).iterdir()
    )
    splits = ["val" if "cha" in p or "txt" in p else "train" for p in photos]
    lines = ["split,image", *(f"{s},{p}" for s, p in zip(splits, photos, strict=True))]
    (casia / "split.csv").write_text("\n".join(lines))
    made = bring_in(casia, tmp_path / "a")
    assert {row["split"] for row in rows(tmp_path / "a").values()} == {"train", "test"}
    assert rows(tmp_path / "a")["Au/Au_txt_0008.JPG"]["split"] == "test"
    assert "val is the test split" in made.notes[0]
    assert made.dataset.split == "given"
    (casia / "split.csv").write_text("\n".join(lines).replace("val,Au", "test,Au"))
    made = bring_in(casia, tmp_path / "b")
    assert {row["split"] for row in rows(tmp_path / "b").values()} == {"train", "val", "test"}
    assert made.notes == []


def test_boxes_are_kept_with_who_drew_them_and_how_long_it_took(coco: Coco, tmp_path: Path) -> None:
    row = {"id": 9, "image_id": 1, "category_id": 1, "bbox": [10.5, 20, 86, 16], "annotator": "ann"}
    bring_in(coco(annotations=[{**row, "seconds": 6.5}]), tmp_path / "out")
    (annotation,) = datasets.load(tmp_path / "out").annotations
    assert annotation["bbox"] == [10.5, 20.0, 85.5, 16.0]  # the overhang of half a pixel is cut
    assert (annotation["annotator"], annotation["seconds"]) == ("ann", 6.5)
    assert datasets.load(tmp_path / "out").boxes == "given"


def test_a_data_set_imports_as_itself(casia: Path, coco: Coco, tmp_path: Path) -> None:
    for number, source in enumerate((casia, coco())):
        first, second = tmp_path / f"first{number}", tmp_path / f"second{number}"
        made = bring_in(source, first)
        again = bring_in(first, second)
        assert again.dataset.images == made.dataset.images
        assert again.dataset.annotations == made.dataset.annotations


@pytest.mark.parametrize(
    ("box", "complaint"),
    [
        ([float("nan"), 0, 5, 5], "not finite"),
        ([10, 10, -5, 5], "inverted"),
        ([-0.9, 5, 0.5, 20], "outside the photo"),
        ([90, 10, 50, 5], "outside the photo"),
    ],
)
def test_a_bad_box_refuses_the_import(
    coco: Coco, tmp_path: Path, box: list[Any], complaint: str
) -> None:
    with pytest.raises(InputError, match=f"a.jpg: .*{complaint}.*--quarantine"):
        bring_in(coco(**one_bad(box)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def spoil(casia: Path, how: str) -> None:
    photo, mask = casia / "Sp" / f"{FIRST}.jpg", casia / "Gt" / f"{FIRST}_gt.png"
    if how == "truncated":
        photo.write_bytes(photo.read_bytes()[:-300])
    elif how == "empty file":
        photo.write_bytes(b"")
    elif how == "not a JPEG":
        photo.write_text("hello")
    elif how == "mask is 10x10":
        write_mask(mask, (0, 0, 5, 5), (10, 10))
    elif how == "mask is empty":
        write_mask(mask, (0, 0, 0, 0))
    elif how == "mask truncated":
        mask.write_bytes(mask.read_bytes()[:-30])
    elif how == "no mask of that name":
        mask.unlink()


@pytest.mark.parametrize(
    "how",
    [
        "truncated",
        "empty file",
        "not a JPEG",
        "mask is 10x10",
        "mask is empty",
        "mask truncated",
        "no mask of that name",
    ],
)
def test_an_unusable_photo_refuses_the_import_or_is_quarantined(
    casia: Path, tmp_path: Path, how: str
) -> None:
    spoil(casia, how)
    with pytest.raises(InputError, match=how) as caught:
        bring_in(casia, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]
    made = bring_in(casia, tmp_path / "out", quarantine=True)
    assert len(made.dataset.images) == 6
    ((name, reason),) = made.quarantined
    assert name == f"Sp/{FIRST}.jpg"
    assert how in reason
    assert table(tmp_path / "out")[name] == ("left out", reason)
    assert [what for what, (outcome, _) in table(tmp_path / "out").items() if outcome == "taken"]
    assert not (tmp_path / "out" / "photos" / name).exists()


def test_an_erased_photo_does_not_come_back(
    casia: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = sha256_bytes((casia / f"Sp/{FIRST}.jpg").read_bytes())
    (tmp_path / "tombstones").mkdir()
    (tmp_path / f"tombstones/{sha256}.json").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=rf"{FIRST}\.jpg: was erased: tombstones/{sha256}"):
        bring_in(casia, tmp_path / "out")
    made = bring_in(casia, tmp_path / "out", quarantine=True)
    assert len(made.dataset.images) == 6
    assert [name for name, _ in made.quarantined] == [f"Sp/{FIRST}.jpg"]


def test_a_name_that_a_terminal_would_obey_is_a_bad_row(casia: Path, tmp_path: Path) -> None:
    write_photo(casia / "Au" / "a\n\x1b[31mb.jpg", seed=40)
    (casia / "junk\x07.bin").write_bytes(b"x")
    made = bring_in(casia, tmp_path / "out", quarantine=True)
    name = r"Au/a\x0a\x1b[31mb.jpg"
    assert made.quarantined == [(name, "its name has control characters")]
    assert {name, r"junk\x07.bin"} <= table(tmp_path / "out").keys()


def test_a_name_that_is_not_utf8_is_a_bad_row(casia: Path, tmp_path: Path) -> None:
    write_photo(casia / "Au" / os.fsdecode(b"caf\xe9.jpg"), seed=40)
    with pytest.raises(InputError, match=r"Au/caf\\udce9\.jpg: its name is not UTF-8"):
        bring_in(casia, tmp_path / "out")
    made = bring_in(casia, tmp_path / "out", quarantine=True)
    assert made.quarantined == [("Au/caf\\udce9.jpg", "its name is not UTF-8")]


def test_a_missing_photo_is_named_with_how_many_more(coco: Coco, tmp_path: Path) -> None:
    source = coco()
    for path in (source / "images").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"a.jpg: no such file \(and 1 more bad photos\)"):
        bring_in(source, tmp_path / "out")
    with pytest.raises(InputError, match="no usable photo"):
        bring_in(source, tmp_path / "out", quarantine=True)


def test_the_size_limit_is_the_callers(casia: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"larger than 0\.001 megapixels"):
        bring_in(casia, tmp_path / "out", max_megapixels=0.001)


def test_what_is_there_is_never_touched(casia: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    bring_in(casia, out)
    before = sorted((path, path.stat().st_mtime_ns) for path in out.rglob("*"))
    with pytest.raises(InputError, match="exists already"):
        bring_in(casia, out)
    assert sorted((path, path.stat().st_mtime_ns) for path in out.rglob("*")) == before


def test_a_failure_halfway_leaves_nothing(
    casia: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("components.ingest.importing.save", full)
    with pytest.raises(OSError, match="No space"):
        bring_in(casia, tmp_path / "data" / "out")
    assert not (tmp_path / "data").exists()


def test_masks_of_other_formats_become_png(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_photo(source / "Tp" / "x.jpg", 1)
    write_mask(source / "Gt" / "x.bmp", (10, 20, 40, 36))
    bring_in(source, tmp_path / "out")
    path = tmp_path / "out" / "masks" / "Tp" / "x.png"
    assert Image.open(path).format == "PNG"
    assert images.open_mask(path).sum() == 30 * 16


def test_photos_that_differ_only_in_suffix_keep_their_own_masks(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for n, suffix in enumerate((".jpg", ".png")):
        write_photo(source / f"x{suffix}", n)
        write_mask(source / f"m{n}.png", (10, 20, 40 + n, 36))
    pairs = [["x.jpg", "m0.png"], ["x.png", "m1.png"]]
    (source / "list.json").write_text(json.dumps(pairs))
    bring_in(source / "list.json", tmp_path / "out")
    found = rows(tmp_path / "out")
    areas = {n: images.open_mask(tmp_path / "out" / r["mask"]).sum() for n, r in found.items()}
    assert areas == {"x.jpg": 30 * 16, "x.png": 31 * 16}


def test_a_linked_photo_comes_in_as_a_file(casia: Path, tmp_path: Path) -> None:
    photo = casia / "Au" / "Au_ani_0001.jpg"
    (casia / ".store").mkdir()
    photo.rename(casia / ".store" / "1")
    os.symlink(casia / ".store" / "1", photo)
    (casia / "Au" / "outside.jpg").symlink_to(write_photo(tmp_path / "secret.jpg", 9))
    bring_in(casia, tmp_path / "out")
    copied = tmp_path / "out" / "photos" / "Au" / "Au_ani_0001.jpg"
    assert not copied.is_symlink()
    assert copied.read_bytes() == (casia / ".store" / "1").read_bytes()
    assert not (tmp_path / "out" / "photos" / "Au" / "outside.jpg").exists()
    assert table(tmp_path / "out")["Au/outside.jpg"] == ("left out", "a link out of the folder")


def test_a_file_with_both_labels_is_bad_under_both_names(casia: Path, tmp_path: Path) -> None:
    photo = casia / "Sp" / f"{FIRST}.jpg"
    (casia / "Au" / "copy.jpg").write_bytes(photo.read_bytes())
    made = bring_in(casia, tmp_path / "out", quarantine=True)
    reason = "the same file is in the data set with the other label"
    assert sorted(made.quarantined) == [("Au/copy.jpg", reason), (f"Sp/{FIRST}.jpg", reason)]


def test_of_two_imports_under_one_name_the_second_is_refused(casia: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def another(done: int, total: int) -> None:
        if not out.exists():
            bring_in(casia, out)

    with pytest.raises(InputError, match="exists already"):
        bring_in(casia, out, progress=another)
    assert len(rows(out)) == 7


def test_a_source_whose_name_is_not_utf8_can_be_prepared(
    casia: Path, tmp_path: Path, settings: Prepare
) -> None:
    bring_in(casia, tmp_path / "out", source_name=os.fsdecode(b"caf\xe9"))
    assert set(build(tmp_path / "out", settings)[0].images["source"]) == {"caf\\udce9"}


def test_a_mask_of_noise_is_a_bad_row(casia: Path, tmp_path: Path) -> None:
    dots = np.zeros((6 * 70, 6 * 70), np.uint8)
    dots[np.ix_(np.arange(420) % 6 < 4, np.arange(420) % 6 < 4)] = 255
    Image.fromarray(dots).save(casia / "Gt" / f"{FIRST}_gt.png")
    ((_, reason),) = bring_in(casia, tmp_path / "out", quarantine=True).quarantined
    assert reason == f"mask has 4,900 separate regions, more than 4,096: {FIRST}_gt.png"


def test_a_mask_stands_in_for_a_box_that_is_not_drawn(
    coco: Coco, tmp_path: Path, settings: Prepare
) -> None:
    images = coco_index()["images"]
    images[1] |= {"label": "manipulated", "mask": "b_mask.png"}
    source = coco(images=images)
    write_mask(source / "b_mask.png", (10, 10, 40, 40))
    made = import_dataset(source, tmp_path / "out", name="o", licence="none", source_name="desk")
    assert made.dataset.boxes == "mixed"
    assert made.notes[-1] == "photos without a box whose boxes are drawn from their masks: 1"
    boxes = build(tmp_path / "out", settings)[0].boxes
    assert list(boxes["image_id"]) == ["a.jpg", "b.jpg"]
    assert list(boxes["annotator"].fillna("a person")) == ["a person", "simulated"]
    # Of a test split that the source gives, the mask alone is enough.
    (tmp_path / "out").rename(tmp_path / "before")
    images[0]["split"], images[1]["split"] = "train", "test"
    source = coco(images=images)
    made = import_dataset(source, tmp_path / "out", name="o", licence="none", source_name="desk")
    assert made.dataset.boxes == "given"


# --- what becomes of every photo, row and file


def test_everything_of_a_source_ends_somewhere(casia: Path, tmp_path: Path) -> None:
    (casia / "readme.txt").write_text("x")
    (casia / ".DS_Store").write_bytes(b"x")
    (casia / "Au" / "raw.CR2").write_bytes(b"x")
    write_photo(casia / "other" / "x.jpg", 7)
    write_mask(casia / "Gt" / "Sp_S_NNN_A_cha0006_cha0006_0004_gt.png", (0, 0, 96, 60))
    (casia / "Au" / "Au_txt_0008.JPG").write_bytes(b"")
    made = bring_in(casia, tmp_path / "out", quarantine=True)
    listed = table(tmp_path / "out")
    assert made.outcomes == [(what, *row) for what, row in listed.items()]
    files = {path.relative_to(casia).as_posix() for path in casia.rglob("*") if path.is_file()}
    assert listed.keys() == files
    used = {what for what, row in listed.items() if row == ("taken", USED)}
    assert used == {name for name in files if name.startswith("Gt/")}
    assert {what: row for what, row in listed.items() if row[0] != "taken"} == {
        "Sp/Sp_S_NNN_A_cha0006_cha0006_0004.jpg": ("noted", "mask is mostly white: 94%"),
        "Au/Au_txt_0008.JPG": ("left out", "empty file (0 bytes)"),
        ".DS_Store": ("left out", "a hidden file"),
        "Au/raw.CR2": ("left out", "a photo format that is not read"),
        "other/x.jpg": ("left out", "a photo that the annotations do not name"),
        "readme.txt": ("left out", "not a file of this format"),
    }
    # Files that no annotation names do not refuse an import; a bad photo does.
    assert made.quarantined == [("Au/Au_txt_0008.JPG", "empty file (0 bytes)")]


def test_what_a_reader_notes_is_listed_with_its_photo(coco: Coco, tmp_path: Path) -> None:
    images = [
        image | {"file_name": f"C:\\x\\{image['file_name']}"} for image in coco_index()["images"]
    ]
    turned = {"bbox": [20, 30, 30, 10], "attributes": {"rotation": 90.0}}
    box = {"id": 1, "image_id": 1, "category_id": 1, **turned}
    made = bring_in(coco(images=images, annotations=[box]), tmp_path / "out")
    first = [row.reason for row in made.outcomes if row.what == "a.jpg"]
    assert any("turned" in reason for reason in first), first
    assert len(first) == len(set(first))
    assert {row.outcome for row in made.outcomes} <= {"taken", "noted"}


def test_a_dry_run_checks_all_and_writes_nothing(casia: Path, tmp_path: Path) -> None:
    made = bring_in(casia, tmp_path / "data" / "out", dry_run=True)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    assert made.outcomes == bring_in(casia, tmp_path / "data" / "out").outcomes
    (casia / "Au" / "Au_txt_0008.JPG").write_bytes(b"")
    with pytest.raises(InputError, match="--quarantine"):
        bring_in(casia, tmp_path / "data" / "other", dry_run=True)


def test_a_pool_of_authentic_photos(tmp_path: Path) -> None:
    for number, name in enumerate(("a.jpg", "sub/a.jpg", "images/b.webp")):
        write_photo(tmp_path / "pool" / name, number)
    made = bring_in(tmp_path / "pool", tmp_path / "out", authentic=True)
    assert set(rows(tmp_path / "out")) == {"a.jpg", "sub/a.jpg", "b.webp"}
    assert {row["label"] for row in made.dataset.images} == {"authentic"}
    assert made.dataset.annotations == []


# --- boxes


@pytest.mark.parametrize(
    ("boxes", "shares"),
    [
        ([[0.1, 0.2, 0.5, 0.25]], True),
        ([[0.1, 0.2, 0.5, 0.25], [0, 0, 1, 1]], True),
        ([[0.1, 0.2, 0.5, 0.25], [10, 10, 20, 20]], False),
        ([[0, 0, 1, 1]], False),  # a pixel
    ],
)
def test_boxes_that_look_like_shares_are_named_as_such(
    coco: Coco, tmp_path: Path, boxes: list[list[float]], shares: bool
) -> None:
    annotations = [
        {"id": n, "image_id": 1, "category_id": 1, "bbox": box} for n, box in enumerate(boxes)
    ]
    source = coco(annotations=annotations)
    if not shares:
        bring_in(source, tmp_path / "out")
        return
    with pytest.raises(
        InputError,
        match=r"boxes look like shares of the photo's size, not pixels \(a.jpg: \[0\.1, 0\.2, ",
    ):
        bring_in(source, tmp_path / "out", quarantine=True)


def test_outlines_are_kept_beside_their_boxes(coco: Coco, tmp_path: Path) -> None:
    outline = [[10.0, 20.0, 40.0, 20.0, 40.0, 36.0, 12.5, 30.0]]
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 16]}
    plain = coco(annotations=[box])
    bring_in(plain, tmp_path / "plain")
    assert "segmentation" not in (tmp_path / "plain/boxes.json").read_text()
    bring_in(coco(annotations=[box | {"segmentation": outline}]), tmp_path / "out")
    (annotation,) = datasets.load(tmp_path / "out").annotations
    assert (annotation["segmentation"], annotation["bbox"]) == (outline, [10, 20, 30, 16])


def test_photos_named_by_hash_leave_no_name_of_the_source(
    casia: Path, tmp_path: Path, settings: Prepare
) -> None:
    out = tmp_path / "data/made"
    write_photo(casia / "Au/named_after_somebody.jpg", seed=8)
    with pytest.raises(InputError, match="photos have names of their own"):
        build(bring_in(casia, tmp_path / "data/named").dataset.root, named_by_hash(settings))
    made = bring_in(casia, out, hash_names=True)
    for image in made.dataset.images:
        photo = (out / "photos" / image["file_name"]).read_bytes()
        assert image["file_name"] == f"{sha256_bytes(photo)}.jpg"
    manifest, quarantine = build(out, named_by_hash(settings))
    assert not quarantine
    names = {path.stem for path in casia.rglob("*") if path.is_file()}
    origins = {name for stem in names for name in casia_origins(stem)}
    kept = [manifest.images.to_csv(), manifest.boxes.to_csv()]
    kept += [path.read_text() for path in out.glob("*.*")]
    kept += [path.name for path in out.rglob("*")]
    found = [name for name in sorted(names | origins) if any(name in text for text in kept)]
    assert found == []
    plain = build(tmp_path / "data/named", settings)[0].images
    one, other = (
        sorted(sorted(group) for _, group in frame.groupby("group")["sha256"])
        for frame in (plain, manifest.images)
    )
    assert one == other
    again = merge(casia, out)
    assert again.added == []
    write_photo(casia / "Au/somebody_else.jpg", seed=9)
    assert len(merge(casia, out).added) == 1
    assert "somebody" not in (out / "boxes.json").read_text() + (out / "import.csv").read_text()


def named_by_hash(settings: Prepare) -> Prepare:
    return settings.model_copy(update={"names": "hash"})
