from __future__ import annotations

import json
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from data_support import Coco, coco_index, write_mask, write_photo
from ingest_support import by_name

from components.core.errors import InputError
from components.ingest.formats import casia as names
from components.ingest.formats import registry
from components.ingest.formats.record import split_named
from components.ingest.formats.source import Source

# --- file names


@pytest.mark.parametrize(
    ("stem", "origins", "kind"),
    [
        ("Sp_D_CND_A_pla0005_pla0023_0281", ("pla0005", "pla0023"), "splice/free"),
        ("Sp_D_NRN_T_pla0023_pla0005_0281", ("pla0005", "pla0023"), "splice/geometric"),
        ("Sp_S_NNN_R_sec0056_sec0056_0282", ("sec0056",), "copy-move/geometric"),
        ("Sp_D_NNN_A_ani0001_ani0002.0123", ("ani0001", "ani0002"), "splice/free"),
        ("Tp_D_CNN_M_N_ani00052_ani00054_11130", ("ani00052", "ani00054"), "splice"),
        ("Tp_S_NRN_S_N_arc00013_arc00013_01110", ("arc00013",), "copy-move"),
        ("Au_ani_0001", ("ani0001",), None),
        ("holiday", (), None),
    ],
)
def test_casia_names_tell_sources_and_kind(
    stem: str, origins: tuple[str, ...], kind: str | None
) -> None:
    assert names.origins(stem) == origins
    assert names.kind(stem) == kind


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("instances_Train", "train"),
        ("valid", "val"),
        ("test", "test"),
        ("train_test", None),
        ("x", None),
    ],
)
def test_split_names(name: str, split: str | None) -> None:
    assert split_named(name) == split


# --- folders


def test_folders_pair_by_name_when_a_mask_is_missing(casia: Path) -> None:
    (casia / "Gt" / "Sp_D_CNN_A_ani0001_pla0002_0001_gt.png").unlink()
    records = by_name(casia)
    assert len(records) == 7
    # Sorted pairing would now give every photo its neighbour's mask.
    for record in records.values():
        if record.label == "manipulated" and record.mask:
            assert record.mask.stem == f"{record.photo.stem}_gt"
    lonely = records["Sp/Sp_D_CNN_A_ani0001_pla0002_0001.jpg"]
    assert lonely.mask is None
    assert lonely.problem == "no mask of that name in Gt/"
    assert records["Au/Au_txt_0008.JPG"].label == "authentic"


def test_a_mask_may_bear_the_photos_plain_name_and_tp_is_sp(tmp_path: Path) -> None:
    write_photo(tmp_path / "Tp" / "x.jpg", 1)
    write_mask(tmp_path / "Gt" / "x.png", (1, 1, 20, 20))
    assert by_name(tmp_path)["Tp/x.jpg"].mask == tmp_path / "Gt" / "x.png"


@pytest.mark.parametrize(
    ("photo", "mask"),
    [
        ("a.jpg", "a-mask.png"),
        ("a.jpg", "a.mask.tif"),
        ("a.jpg", "a GT.png"),
        ("a.jpg", "a.jpg.png"),
        ("a.jpg", "a_mask.jpg.png"),
        ("face-mask.jpg", "face-mask.png"),
        ("face-mask.jpg", "face-mask_gt.png"),
    ],
)
def test_how_masks_are_called(tmp_path: Path, photo: str, mask: str) -> None:
    write_photo(tmp_path / "Tp" / photo, 1)
    write_mask(tmp_path / "CASIA 1.0 groundtruth" / mask, (1, 1, 20, 20))
    record = by_name(tmp_path)[f"Tp/{photo}"]
    assert record.mask == tmp_path / "CASIA 1.0 groundtruth" / mask
    assert not record.problem


def test_a_mask_without_photo_is_a_problem_and_two_masks_are_refused(casia: Path) -> None:
    write_mask(casia / "Gt" / "nobody_gt.png", (1, 1, 20, 20))
    assert "without a photo" in (by_name(casia)["Gt/nobody_gt.png"].problem or "")
    write_mask(casia / "Gt" / "nobody.png", (1, 1, 20, 20))
    with pytest.raises(InputError, match="both masks of nobody"):
        registry.read(casia)


def test_split_csv_lists_the_photos_and_their_splits(casia: Path) -> None:
    stem = "Sp_S_NNN_A_cha0006_cha0006_0004"
    write_mask(casia / "Gt" / "other.png", (1, 1, 20, 20))
    rows = ["split,image,mask", f"train,Sp/{stem}.jpg,Gt/other.png", "val,Au/Au_ani_0001.jpg,"]
    (casia / "split.csv").write_text("\n".join(rows) + "\n")
    records = by_name(casia)
    assert records[f"Sp/{stem}.jpg"].mask == casia / "Gt" / "other.png"
    assert records[f"Sp/{stem}.jpg"].split == "train"
    assert records["Au/Au_ani_0001.jpg"].split == "val"
    assert records["Au/Au_txt_0008.JPG"].problem == "not listed in split.csv"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("image,mask\nAu/Au_ani_0001.jpg,\n", "needs the columns split,image"),
        ("split,image\nholdout,Au/Au_ani_0001.jpg\n", "line 2: split 'holdout'"),
        ("split,image\ntrain,other/x.png\n", "line 2: 'other/x.png' is not in Tp, Sp or Au"),
        ("split,image\ntrain,Au/Au_ani_0001.jpg\nval,Au/Au_ani_0001.jpg\n", "is there twice"),
    ],
)
def test_a_wrong_split_csv_is_refused(casia: Path, text: str, complaint: str) -> None:
    write_photo(casia / "other" / "x.png", 1)
    (casia / "split.csv").write_text(text)
    with pytest.raises(InputError, match=complaint):
        registry.read(casia)


def test_manipulated_photos_without_a_mask_folder_are_refused(tmp_path: Path) -> None:
    write_photo(tmp_path / "Tp" / "x.jpg", 1)
    with pytest.raises(InputError, match="no masks"):
        registry.read(tmp_path)
    (tmp_path / "Gt").mkdir()
    with pytest.raises(InputError, match="no masks"):
        registry.read(tmp_path)


def test_authentic_photos_beside_empty_folders_are_read(tmp_path: Path) -> None:
    write_photo(tmp_path / "Au" / "x.jpg", 1)
    for name in ("Sp", "Gt"):
        (tmp_path / name).mkdir()
    (tmp_path / "Sp" / ".hidden.jpg").write_bytes(b"no photo")
    records = by_name(tmp_path)
    assert list(records) == ["Au/x.jpg"]
    assert (records["Au/x.jpg"].label, records["Au/x.jpg"].problem) == ("authentic", None)


def test_split_csv_of_another_machine(casia: Path) -> None:
    rows = [
        r"train,C:\exports\Sp\Sp_S_NNN_A_cha0006_cha0006_0004.jpg,"
        r"D:\masks\Sp_S_NNN_A_cha0006_cha0006_0004_gt.png",
        r"val,Au\Au_ani_0001.jpg,",
        "test,../../secret.jpg,",
        "test,Sp/Sp_D_NRN_R_pla0002_nat0009_0002.jpg,/etc/hostname",
    ]
    write_photo(casia.parent / "secret.jpg", 3)
    (casia / "split.csv").write_text("\n".join(["split,image,mask", *rows]), "utf-8-sig")
    records = by_name(casia)
    stem = "Sp_S_NNN_A_cha0006_cha0006_0004"
    assert records[f"Sp/{stem}.jpg"].mask == casia / "Gt" / f"{stem}_gt.png"
    assert records[f"Sp/{stem}.jpg"].notes == (
        f"found by its base name: Sp/{stem}.jpg",
        f"mask found by its base name: Gt/{stem}_gt.png",
    )
    assert (records["Au/Au_ani_0001.jpg"].split, records["Au/Au_ani_0001.jpg"].notes) == ("val", ())
    assert records["../../secret.jpg"].problem == "no such file"
    other = records["Sp/Sp_D_NRN_R_pla0002_nat0009_0002.jpg"]
    assert other.problem == "mask '/etc/hostname': no such file"


@pytest.mark.parametrize(
    ("forged", "masks", "mask", "plain"),
    [
        ("4cam_splc", "4cam_splc/edgemask", "x_edgemask.jpg", "4cam_auth"),  # Columbia
        ("Tp", "CASIA 2 Groundtruth", "x_gt.png", "Au"),
        ("tampered", "masks", "x_mask.png", "original"),
        ("Manipulated", "ground-truth", "x.png", "Authentic"),
    ],
)
def test_folders_have_the_names_that_data_sets_give_them(
    tmp_path: Path, forged: str, masks: str, mask: str, plain: str
) -> None:
    write_photo(tmp_path / forged / "x.tif", 1)
    write_mask(tmp_path / masks / mask, (1, 1, 20, 20))
    write_photo(tmp_path / plain / "x.jpg", 2)
    write_mask(tmp_path / plain / "edgemask" / "x_edgemask.jpg", (1, 1, 20, 20))
    reading = registry.read(tmp_path)
    records = {record.name: record for record in reading.records}
    assert set(records) == {f"{forged}/x.tif", f"{plain}/x.jpg"}
    assert records[f"{forged}/x.tif"].mask == tmp_path / masks / mask
    assert records[f"{plain}/x.jpg"].label == "authentic"
    assert [left.what for left in reading.left] == [f"{plain}/edgemask/x_edgemask.jpg"]


def test_names_of_photo_and_mask_compare_in_one_unicode_form(tmp_path: Path) -> None:
    name = unicodedata.normalize("NFD", "é")
    write_photo(tmp_path / "Tp" / f"{name}.jpg", 1)
    write_mask(tmp_path / "Gt" / f"{unicodedata.normalize('NFC', name)}_gt.png", (1, 1, 20, 20))
    (record,) = registry.read(tmp_path).records
    assert (record.problem, record.mask is not None) == (None, True)


# --- authentic photos without annotations


def test_authentic_photos_need_to_be_said_to_be(tmp_path: Path) -> None:
    write_photo(tmp_path / "street" / "a.jpg", 1)
    write_photo(tmp_path / "street" / "sub" / "a.jpg", 2)
    (tmp_path / "street" / "b.gif").write_bytes(b"GIF89a")
    (tmp_path / "street" / ".DS_Store").write_bytes(b"x")
    with pytest.raises(InputError, match="no annotations found; --authentic if all photos are"):
        registry.read(tmp_path / "street")
    with pytest.raises(InputError, match="unknown format 'authentic'"):
        registry.read(tmp_path / "street", "authentic")
    reading = registry.read(tmp_path / "street", authentic=True)
    assert [(r.name, r.label) for r in reading.records] == [
        ("a.jpg", "authentic"),
        ("sub/a.jpg", "authentic"),
    ]
    assert reading.left == [
        (".DS_Store", "a hidden file"),
        ("b.gif", "a photo format that is not read"),
    ]


def test_a_single_photo_is_that_photo_alone(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.jpg", 1)
    write_photo(tmp_path / "b.jpg", 2)
    reading = registry.read(tmp_path / "a.jpg", authentic=True)
    assert [record.name for record in reading.records] == ["a.jpg"]


def test_a_source_without_what_was_asked_for(coco: Coco) -> None:
    with pytest.raises(InputError, match="no Pascal VOC XML in it"):
        registry.read(coco(), "voc")


def test_annotations_and_what_is_said_must_agree(casia: Path, coco: Coco) -> None:
    with pytest.raises(InputError, match=r"4 photos are annotated as manipulated, e\.g\. Sp/"):
        registry.read(casia, authentic=True)
    empty = coco(annotations=[])
    with pytest.raises(InputError, match="2 photos and not one annotation; --authentic if all"):
        registry.read(empty)
    assert len(registry.read(empty, authentic=True).records) == 2
    images = [image | {"label": "authentic"} for image in coco_index()["images"]]
    assert len(registry.read(coco(images=images, annotations=[])).records) == 2
    shutil.rmtree(casia / "Sp")
    shutil.rmtree(casia / "Gt")
    assert len(registry.read(casia).records) == 3


def test_two_photos_of_one_name_are_both_named(tmp_path: Path) -> None:
    write_photo(tmp_path / "images" / "a.jpg", 1)
    write_photo(tmp_path / "photos" / "a.jpg", 2)
    with pytest.raises(
        InputError, match=r"images/a\.jpg and photos/a\.jpg would both be photo 'a\.jpg'; rename"
    ):
        registry.read(tmp_path, authentic=True)


# --- IMDL-BenCo


def test_imdlbenco_pairs(casia: Path) -> None:
    stem = "Sp_D_CNN_A_ani0001_pla0002_0001"
    rows = [
        [f"./Sp/{stem}.jpg", str(casia / "Gt" / f"{stem}_gt.png")],
        [str(casia / "Au" / "Au_ani_0001.jpg"), "Negative"],
    ]
    (casia / "test.json").write_text(json.dumps(rows))
    records = by_name(casia / "test.json")
    forged = records[f"Sp/{stem}.jpg"]
    assert forged.mask == casia / "Gt" / f"{stem}_gt.png"
    assert (forged.label, forged.kind) == ("manipulated", "splice/free")
    assert records["Au/Au_ani_0001.jpg"].label == "authentic"
    assert forged.split is None


def test_imdlbenco_lists_in_a_folder_of_their_own(casia: Path) -> None:
    (casia / "lists").mkdir()
    (casia / "lists" / "all.json").write_text(json.dumps([["Au/Au_ani_0001.jpg", "Negative"]]))
    assert by_name(casia, "imdlbenco")["Au/Au_ani_0001.jpg"].label == "authentic"


def test_imdlbenco_paths_of_another_machine(casia: Path) -> None:
    stem = "Sp_D_CNN_A_ani0001_pla0002_0001"
    rows = [
        [f"/data/casia/{stem}.jpg", rf"C:\masks\{stem}_gt.png"],
        ["../secret.jpg", "Negative"],
        ["Au/Au_ani_0001.jpg", "/etc/hostname"],
    ]
    write_photo(casia.parent / "secret.jpg", 3)
    (casia / "list.json").write_text(json.dumps(rows), "utf-8-sig")
    records = by_name(casia / "list.json")
    assert records[f"Sp/{stem}.jpg"].mask == casia / "Gt" / f"{stem}_gt.png"
    assert "found by its base name" in records[f"Sp/{stem}.jpg"].notes[0]
    assert records["../secret.jpg"].problem == "no such file"
    wrong = records["Au/Au_ani_0001.jpg"]
    assert wrong.problem == "mask '/etc/hostname': no such file"


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([["a.jpg", "Negative"], ["b.jpg"]], "not a \\[photo, mask\\] pair"),
        ([["a.jpg", "Negative"], ["a.jpg", "m.png"]], "is there twice"),
    ],
)
def test_a_wrong_list_is_refused(tmp_path: Path, rows: list[Any], complaint: str) -> None:
    (tmp_path / "list.json").write_text(json.dumps(rows))
    with pytest.raises(InputError, match=complaint):
        registry.read(tmp_path, "imdlbenco")


# --- registry


def test_the_format_is_detected_or_asked_for(casia: Path, coco: Coco, tmp_path: Path) -> None:
    assert registry.detect(Source(casia)) == "folders"
    assert registry.detect(Source(coco())) == "coco"
    (casia / "labels.json").write_text(json.dumps(coco_index()))
    with pytest.raises(InputError, match="could be coco or folders; choose one with --format"):
        registry.detect(Source(casia))
    assert len(registry.read(casia, "folders").records) == 7
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no annotations found"):
        registry.detect(Source(tmp_path / "empty"))
    with pytest.raises(InputError, match="no such file or folder"):
        registry.read(tmp_path / "none")
    with pytest.raises(InputError, match="unknown format 'word'"):
        registry.read(casia, "word")


@pytest.mark.parametrize("as_file", [True, False])
def test_json_that_ends_early_is_said_to(coco: Coco, as_file: bool) -> None:
    root = coco()
    file = root / "labels.json"
    text = json.dumps(json.loads(file.read_text()), indent=1)
    for cut in (len(text) // 2, len(text) - 1, text.index("images") + 3):
        file.write_text(text[:cut])
        line = text[:cut].count("\n") + 1
        with pytest.raises(InputError, match=rf"labels\.json: .*ends early \(line {line}, column"):
            registry.read(file if as_file else root)
    file.write_text('{"images": [1 2]}')
    with pytest.raises(InputError, match=r"Expecting ',' delimiter \(line 1, column 15\)"):
        registry.read(file if as_file else root)


def test_a_broken_file_among_several_is_not_left_out(coco: Coco) -> None:
    root = coco()
    whole = (root / "labels.json").read_text()
    (root / "labels.json").unlink()
    (root / "instances_train.json").write_text(whole)
    (root / "instances_val.json").write_text(whole[:40])
    (root / "captions.json").write_text("[]")
    with pytest.raises(InputError, match=r"instances_val\.json: .*ends early"):
        registry.read(root)
