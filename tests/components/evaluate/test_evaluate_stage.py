"""The stage `evaluate` in a workspace of its own: which photos, which files, the same twice."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from small_students import small_student

from components.core.errors import InputError
from components.core.files import read_json, sha256_file
from components.core.images import save_grey, save_photo
from components.core.params import load
from components.data import build as prepare
from components.data import dataset, manifest
from components.evaluate import __main__ as evaluate
from components.evaluate.__main__ import main
from components.export.onnx import save
from components.ingest.importing import import_dataset

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two imported data sets, the first of them prepared, and a small student."""
    root = tmp_path_factory.mktemp("workspace")
    mask = np.zeros((32, 40), dtype=np.uint8)
    mask[5:20, 8:24] = 255
    for count, name in ((12, "demo"), (4, "other")):
        for number in range(count):
            random = np.random.default_rng([count, number])
            for folder in ("Tp", "Au"):
                photo = random.integers(0, 255, (32, 40, 3), dtype=np.uint8)
                save_photo(root / name / folder / f"{folder}{number}.png", photo)
            save_grey(root / name / "Gt" / f"Tp{number}_gt.png", mask)
        source = {"name": name, "licence": "none", "source_name": "made"}
        import_dataset(root / name, root / "data" / name, **source)
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["prepare"] |= {"near_duplicate_bits": 0}
    values["evaluate"] |= {"datasets": ["demo", "other"], "bootstrap": 100, "threads": 1}
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    tables, _ = prepare.build(root / "data/demo", load(root / "params.yaml").prepare)
    manifest.write(root / "runs/prepare", tables.below("demo"))
    save(small_student(prototypes=0, alpha=0.5), root / "runs/export")
    return root


@pytest.fixture
def inside(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in the workspace."""
    monkeypatch.chdir(workspace)
    return workspace


def test_prepared_data_set_is_scored_on_its_test_split(
    inside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["demo"])
    expected = manifest.read("runs/prepare").select(split="test").images
    metrics = read_json("runs/evaluate/demo/metrics.json")
    assert metrics["n_manipulated"] + metrics["n_authentic"] == len(expected) < 24
    told = capsys.readouterr().out
    for part in ("evaluate", "jpeg 70"):
        assert f"demo, {part}: {len(expected)}/{len(expected)} photos" in told


def test_another_process_writes_the_same_bytes(inside: Path) -> None:
    folder, hashes = inside / "runs/evaluate/demo", []
    command = [sys.executable, "-m", "components.evaluate", "demo"]
    for run in (lambda: main(["demo"]), lambda: subprocess.run(command, check=True)):
        run()
        hashes.append({path.name: sha256_file(path) for path in folder.iterdir()})
        shutil.rmtree(folder)
    assert hashes[0] == hashes[1]
    assert set(hashes[0]) == {"metrics.json", "images.parquet", "report.html", "photos.html"}


def test_another_data_set_is_scored_whole(inside: Path) -> None:
    main(["other"])
    metrics = read_json("runs/evaluate/other/metrics.json")
    assert (metrics["n_manipulated"], metrics["n_authentic"]) == (4, 4)


def test_photos_known_from_training_are_left_out_of_another_data_set(inside: Path) -> None:
    images = manifest.read("runs/prepare").images
    found, which = evaluate.photos("other", load())
    rows = found.images
    known = images[images["split"] == "train"].iloc[0]
    shutil.copytree("data/other", "data/mixed")
    photo = Path("data/mixed", rows["path"].iloc[0])
    photo.unlink()  # a hard link of the one in the source
    shutil.copy(Path("data", known["path"]), photo)
    left, told = evaluate.photos("mixed", load())
    assert set(left.images["image_id"]) == set(rows["image_id"].iloc[1:])
    assert (which, told) == ("all photos", "all photos, 1 left out that resemble training photos")
    photos = [
        image for image in dataset.load("data/mixed").images if image["file_name"] in str(photo)
    ]
    dataset.save(replace(dataset.load("data/mixed"), images=photos, annotations=[]))
    with pytest.raises(InputError, match="all 1 photos to score resemble photos that the student"):
        evaluate.photos("mixed", load())


@pytest.mark.parametrize("arguments", [[], ["nowhere"], ["demo", "other"]])
def test_wrong_use_names_the_data_sets(inside: Path, arguments: list[str]) -> None:
    with pytest.raises(InputError, match=r"expected one data set .*\(demo, other\)"):
        main(arguments)
