from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from components.core import params
from components.core.errors import InputError
from components.core.files import sha256_file
from components.data import manifest
from components.index import __main__ as index
from components.prepare import __main__ as prepare

ROOT = Path(__file__).parents[3]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml and a data set of six photos."""
    monkeypatch.chdir(tmp_path)
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["prepare"] |= {"datasets": ["made"], "max_quarantined": 0}
    values["evaluate"]["datasets"] = ["made"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    root = tmp_path / "data" / "made"
    (root / "photos").mkdir(parents=True)
    images, annotations = [], []
    for number in range(6):
        coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((96, 64)).save(root / "photos" / f"{number}.jpg")
        label = "authentic" if number % 2 else "manipulated"
        images.append(
            {"id": number, "file_name": f"{number}.jpg", "label": label, "kind": "splice"}
        )
        if label == "manipulated":
            annotations.append({"id": number, "image_id": number, "bbox": [10, 10, 30, 20]})
    (root / "boxes.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    card = {"name": "made", "licence": "CC0", "source": "t", "boxes": "given", "split": "grouped"}
    (root / "dataset.yaml").write_text(yaml.safe_dump(card))
    return tmp_path


def change(workspace: Path, **values: object) -> None:
    told = yaml.safe_load((workspace / "params.yaml").read_text())
    told["prepare"] |= values
    (workspace / "params.yaml").write_text(yaml.safe_dump(told))


def both() -> None:
    """The stages `index`, of every data set, and `prepare`."""
    for name in params.load().prepare.datasets:
        index.main([name])
    prepare.main()


def test_everything_is_written_and_a_second_run_gives_the_same_bytes(workspace: Path) -> None:
    both()
    out = workspace / "runs" / "prepare"
    names = ["boxes.parquet", "manifest.parquet", "quarantine.csv", "summary.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    before = [sha256_file(out / name) for name in names]
    tables = manifest.read(out)
    some = manifest.read(out, ["sha256", "path"], ["x0"])
    pd.testing.assert_frame_equal(some.images, tables.images[["sha256", "path"]])
    pd.testing.assert_frame_equal(some.boxes, tables.boxes[["x0"]])
    assert (len(tables.images), len(tables.boxes)) == (6, 3)
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["photos"], summary["boxes"]) == (6, 3)
    assert summary["datasets"] == {"made": {"licence": "CC0", "photos": 6, "moved": 0}}
    assert sum(sum(counts.values()) for counts in summary["splits"].values()) == 6
    assert summary["kinds"] == {"splice": 6}
    assert (out / "quarantine.csv").read_text() == "photo,reason\n"
    both()
    assert [sha256_file(out / name) for name in names] == before


def test_too_many_unusable_photos_stop_the_stage_after_the_list_is_written(workspace: Path) -> None:
    for number in (1, 4):
        (workspace / "data" / "made" / "photos" / f"{number}.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"1\.jpg: empty file \(0 bytes\) and 1 more") as caught:
        both()
    assert "raise prepare.max_quarantined" in str(caught.value)
    with open(workspace / "runs" / "prepare" / "quarantine.csv", newline="") as file:
        assert [row["photo"] for row in csv.DictReader(file)] == ["1.jpg", "4.jpg"]
    assert not (workspace / "runs" / "prepare" / "manifest.parquet").exists()
    change(workspace, max_quarantined=1)
    with pytest.raises(InputError, match="1 may be left out"):
        both()
    change(workspace, max_quarantined=2)
    both()
    assert len(manifest.read(workspace / "runs" / "prepare").images) == 4


@pytest.mark.parametrize("label", ["authentic", "manipulated"])
def test_one_class_only_cannot_train(workspace: Path, label: str) -> None:
    path = workspace / "data" / "made" / "boxes.json"
    index = json.loads(path.read_text())
    index["images"] = [image for image in index["images"] if image["label"] == label]
    index["annotations"] = []
    path.write_text(json.dumps(index))
    with pytest.raises(InputError, match="training needs both classes"):
        both()


def test_an_unknown_data_set_is_said_to_be_missing(workspace: Path) -> None:
    told = yaml.safe_load((workspace / "params.yaml").read_text())
    told["prepare"]["datasets"] = told["evaluate"]["datasets"] = ["other"]
    (workspace / "params.yaml").write_text(yaml.safe_dump(told))
    with pytest.raises(InputError, match="data/other: no such data set"):
        both()
