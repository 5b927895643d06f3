from __future__ import annotations

import json
import logging
import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pseudo_label_support import made_otherwise, make_dataset, scene, settings, tree

from components.core import crew, stream
from components.core.errors import InputError
from components.data.manifest import Manifest, read_table, write
from components.pseudo_label import quality
from components.pseudo_label.label import LABELS, label_dataset
from components.pseudo_label.prompts import expand, prompt_sha256
from components.pseudo_label.registry import SHARED, build


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    root = tmp_path_factory.mktemp("data")
    return root, make_dataset(root, 12)


def label(data: tuple[Path, Manifest], out: Path, cache: Path, **changes: object) -> pd.DataFrame:
    return label_dataset(data[1], data[0], settings(**changes), out, cache)


def test_outputs_and_their_contract(data, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    labels = label_dataset(
        data[1],
        data[0],
        settings(),
        tmp_path / "out",
        tmp_path / "cache",
        lambda done, total: seen.append((done, total)),
    )
    assert seen == [(n, 12) for n in range(1, 13)]
    stored = read_table(tmp_path / "out" / "labels.parquet", LABELS)
    pd.testing.assert_frame_equal(stored, labels)
    assert list(labels["image_id"]) == sorted(labels["image_id"])
    assert "z.png" not in set(labels["image_id"])
    teacher = build(settings())
    for row in labels.to_dict("records"):
        index = int(row["image_id"][-7:-4])
        photo, mask, box = scene(index)
        image = Image.open(tmp_path / "out" / "masks" / f"{row['image_id']}.png")
        made = np.asarray(image)
        assert image.mode == "L"
        assert made.shape == photo.shape[:2]
        found = made > 127
        assert row["iou_vs_mask"] == (found & mask).sum() / (found | mask).sum()
        assert row["teacher_sha256"] == teacher.sha256
        assert row["prompt_sha256"] == prompt_sha256(expand(box, 0.05, 128, 96))
        assert row["accepted"]
    assert labels["predicted_iou"].isna().all()
    assert labels["iou_vs_mask"].mean() > 0.9


def test_summary_and_contact_sheet(data, tmp_path: Path) -> None:
    labels = label(data, tmp_path / "out", tmp_path / "cache")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["teacher"] == "grabcut"
    assert summary["n"] == summary["n_with_mask"] == 12
    assert summary["mean_iou_vs_mask"] == pytest.approx(labels["iou_vs_mask"].mean())
    assert summary["kinds"]["splice/geometric"]["n"] == 4
    assert summary["kinds"]["splice/free"]["n"] == 8
    sheet = np.asarray(Image.open(tmp_path / "out" / "contact_sheet.png"))
    assert sheet.shape == (32 + 3 * (32 + 24) + 9 * (192 + 32), 800, 3)
    assert (sheet == (255, 196, 0)).all(axis=2).any()


def test_low_confidence_is_not_accepted_and_needs_no_new_masks(data, tmp_path: Path) -> None:
    first = label(data, tmp_path / "a", tmp_path / "cache")
    cut = float(first["confidence"].median())
    strict = label(data, tmp_path / "b", tmp_path / "cache", min_confidence=cut)
    low = strict["confidence"] < cut
    assert 0 < low.sum() < 12
    assert (strict["accepted"] == ~low).all()
    assert strict.loc[low, "reason"].str.contains("is below").all()
    assert tree(tmp_path / "a" / "masks") == tree(tmp_path / "b" / "masks")


def test_second_run_takes_everything_from_the_cache(data, tmp_path: Path, monkeypatch) -> None:
    label(data, tmp_path / "a", tmp_path / "cache")
    monkeypatch.setattr(quality, "pseudo_masks", None)  # any attempt to compute would fail
    label(data, tmp_path / "b", tmp_path / "cache")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_changed_box_makes_one_photo_again(data, tmp_path: Path) -> None:
    label(data, tmp_path / "a", tmp_path / "cache")
    before = tree(tmp_path / "cache")
    boxes = data[1].boxes.copy()
    boxes.loc[boxes.index[0], "x0"] += 1
    label((data[0], Manifest(data[1].images, boxes)), tmp_path / "b", tmp_path / "cache")
    after = tree(tmp_path / "cache")
    assert len(after) == len(before) + 1
    assert before.items() <= after.items()


@pytest.mark.parametrize("change", [{"teacher": "box"}, {"margin": 0.06}, {}])
def test_settings_of_the_teacher_are_part_of_the_key(data, tmp_path: Path, change: dict) -> None:
    label(data, tmp_path / "a", tmp_path / "cache")
    before = len(tree(tmp_path / "cache"))
    label(data, tmp_path / "b", tmp_path / "cache", **change)
    assert len(tree(tmp_path / "cache")) == (2 * before if change else before)


PACKAGE = "components.pseudo_label"


@pytest.mark.parametrize(
    ("change", "again"),
    [
        *((module, True) for module in (*SHARED, f"{PACKAGE}.teachers.baselines", "cv2")),
        ("components.core.crew", False),
        *((f"{PACKAGE}.{module}", False) for module in ("workers", "networks", "cache")),
        (f"{PACKAGE}.teachers.sam_lite.network", False),
        ("components.core.seeds", False),
    ],
)
def test_what_makes_masks_is_part_of_the_key_alone(
    data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, again: bool
) -> None:
    label(data, tmp_path / "a", tmp_path / "cache", teacher="box")
    before = len(tree(tmp_path / "cache"))
    made_otherwise(monkeypatch, change)
    label(data, tmp_path / "b", tmp_path / "cache", teacher="box")
    assert len(tree(tmp_path / "cache")) == (2 * before if again else before)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")  # no row names it


def test_corrupted_entry_is_made_again(data, tmp_path: Path) -> None:
    label(data, tmp_path / "a", tmp_path / "cache")
    good = tree(tmp_path / "cache")
    victims = sorted((tmp_path / "cache").rglob("*.label"))[:2]
    victims[0].write_bytes(victims[0].read_bytes()[:-5])
    victims[1].write_bytes(b"")
    label(data, tmp_path / "b", tmp_path / "cache")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert tree(tmp_path / "cache") == good


def test_unusable_cache_folder_warns_once_and_works_on(data, tmp_path: Path, caplog) -> None:
    (tmp_path / "cache").write_text("a file in the way")
    with caplog.at_level(logging.WARNING):
        label(data, tmp_path / "a", tmp_path / "cache")
    assert sum("working without it" in record.message for record in caplog.records) == 1
    label(data, tmp_path / "b", tmp_path / "good")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_number_of_workers_changes_nothing(data, tmp_path: Path, monkeypatch) -> None:
    trees = []
    monkeypatch.setattr(crew, "_FEW", 1)
    monkeypatch.setattr(stream, "BATCH", 2)
    for cores in (1, 3):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=cores: set(range(n)))
        label(data, tmp_path / f"out{cores}", tmp_path / f"cache{cores}")
        trees.append(tree(tmp_path / f"out{cores}"))
    assert trees[0] == trees[1]
    assert tree(tmp_path / "cache1") == tree(tmp_path / "cache3")


def test_bad_photo_in_a_worker_is_one_clear_line(tmp_path: Path, monkeypatch) -> None:
    manifest = make_dataset(tmp_path / "data", 10)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(crew, "_FEW", 1)
    monkeypatch.setattr(stream, "BATCH", 2)
    (tmp_path / "data" / "photos" / "p004.png").write_bytes(b"other bytes")
    with pytest.raises(InputError, match=r"p004\.png.*SHA-256 differs"):
        label((tmp_path / "data", manifest), tmp_path / "out", tmp_path / "cache")
    (tmp_path / "data" / "photos" / "p004.png").unlink()
    with pytest.raises(InputError, match=r"p004\.png.*no such file"):
        label((tmp_path / "data", manifest), tmp_path / "out", tmp_path / "cache")


def test_box_outside_its_photo_names_the_photo(data, tmp_path: Path) -> None:
    boxes = data[1].boxes.copy()
    boxes.loc[boxes.index[3], ["x0", "x1"]] = [500.0, 510.0]
    with pytest.raises(InputError, match=rf"{boxes.iloc[3]['image_id']}.*box"):
        label((data[0], Manifest(data[1].images, boxes)), tmp_path / "o", tmp_path / "c")


def test_paths_cannot_leave_the_output(data, tmp_path: Path) -> None:
    images, boxes = data[1].images.copy(), data[1].boxes.copy()
    boxes.loc[boxes["image_id"] == images.at[0, "image_id"], "image_id"] = "../../evil"
    images.at[0, "image_id"] = "../../evil"
    with pytest.raises(InputError, match="leaves"):
        label((data[0], Manifest(images, boxes)), tmp_path / "o", tmp_path / "c")


def test_photos_without_boxes_are_counted_and_left_out(data, tmp_path: Path) -> None:
    boxes = data[1].boxes.iloc[2:]
    labels = label((data[0], Manifest(data[1].images, boxes)), tmp_path / "o", tmp_path / "c")
    assert len(labels) == 10
    assert json.loads((tmp_path / "o" / "summary.json").read_text())["without_box"] == 2


def test_nothing_to_label(data, tmp_path: Path) -> None:
    labels = label((data[0], data[1].select(label="authentic")), tmp_path / "o", tmp_path / "c")
    assert labels.empty
    assert json.loads((tmp_path / "o" / "summary.json").read_text())["mean_confidence"] is None
    assert (tmp_path / "o" / "contact_sheet.png").exists()


def test_without_true_masks_the_sheet_ranks_by_confidence(data, tmp_path: Path) -> None:
    images = data[1].images.assign(mask_path=None)
    labels = label((data[0], Manifest(images, data[1].boxes)), tmp_path / "o", tmp_path / "c")
    assert labels["iou_vs_mask"].isna().all()
    assert json.loads((tmp_path / "o" / "summary.json").read_text())["n_with_mask"] == 0


def workspace(root: Path, count: int) -> None:
    """A project folder as the stage finds it."""
    manifest = make_dataset(root / "data" / "demo", count)
    write(root / "runs" / "prepare", manifest.below("demo"))
    committed = (Path(__file__).parents[3] / "params.yaml").read_text()
    (root / "params.yaml").write_text(committed.replace("teacher: sam_lite", "teacher: grabcut"))


def stage(root: Path, **environment: str) -> subprocess.Popen:
    env = {**os.environ, "IML_STATE": str(root / "state"), "OMP_NUM_THREADS": "1", **environment}
    env["PYTHONPATH"] = str(Path(__file__).parents[3])
    return subprocess.Popen(
        [sys.executable, "-m", "components.pseudo_label"],
        cwd=root,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_killed_stage_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for root in (whole, cut):
        workspace(root, 60)
    out, error = stage(whole).communicate(timeout=120)
    assert "60 photos labelled by grabcut" in out, error
    victim = stage(cut)
    entries = cut / "state" / "cache" / "pseudo_label"
    while len(list(entries.rglob("[!.]*.label"))) < 5:
        assert victim.poll() is None
        time.sleep(0.005)
    victim.kill()
    victim.communicate(timeout=60)  # returns only when the orphaned workers are gone as well
    kept = len(list(entries.rglob("[!.]*.label")))
    assert 5 <= kept < 60
    out, error = stage(cut).communicate(timeout=120)
    assert "60 photos labelled" in out, error
    assert tree(whole / "runs" / "pseudo_label") == tree(cut / "runs" / "pseudo_label")


def test_stage_on_a_full_disk_keeps_what_is_finished(tmp_path: Path) -> None:
    workspace(tmp_path, 6)
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600)); "
    limit += "from components.pseudo_label.__main__ import main; main()"
    env = {**os.environ, "IML_STATE": str(tmp_path / "s"), "PYTHONDONTWRITEBYTECODE": "1"}
    env["PYTHONPATH"] = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", limit],
        cwd=tmp_path,
        env=env,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "free some space" in done.stderr
    assert "Traceback" not in done.stderr


READ_ONLY = """
import os, pickle, sys
from pathlib import Path
from components.pseudo_label.label import label_dataset
from components.pseudo_label.registry import build, identity
work = Path(sys.argv[1])
manifest, params = pickle.loads((work / "arguments").read_bytes())
identity(build(params))  # reads what the other user may not
if os.geteuid() == 0:
    os.seteuid(65534)  # root writes into read-only folders
label_dataset(manifest, work / "data", params, work / "out", work / "cache")
"""


def test_read_only_cache_folder(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        work = Path(folder)
        work.chmod(0o755)
        manifest = make_dataset(work / "data", 2)
        (work / "arguments").write_bytes(pickle.dumps((manifest, settings())))
        (work / "cache").mkdir(mode=0o555)
        (work / "out").mkdir()
        (work / "out").chmod(0o777)
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
        done = subprocess.run(
            [sys.executable, "-c", READ_ONLY, folder],
            env=env,
            text=True,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("\n") == 1
        assert "cache not written (Permission denied), working without it" in done.stderr
        assert len(tree(work / "out" / "masks")) == 2
        assert tree(work / "cache") == {}
