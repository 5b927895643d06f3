"""Made sources and data sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from data_support import Coco, coco_index, write_mask, write_photo

from components.core.params import Prepare, Split
from components.ingest.formats import registry
from components.ingest.formats.record import Record

SETTINGS = Prepare(
    datasets=["made"],
    seed=7,
    jitter=0.1,
    split=Split(val=0.2, test=0.3),
    near_duplicate_bits=4,
    max_megapixels=1.0,
    max_quarantined=0,
)


@pytest.fixture
def settings() -> Prepare:
    return SETTINGS


@pytest.fixture
def casia(tmp_path: Path) -> Path:
    """Four manipulated and three authentic photos in folders, named as CASIA names them."""
    root = tmp_path / "source"
    names = [
        "Sp_D_CNN_A_ani0001_pla0002_0001",
        "Sp_D_NRN_R_pla0002_nat0009_0002",
        "Sp_S_NNN_C_sec0005_sec0005_0003",
        "Sp_S_NNN_A_cha0006_cha0006_0004",
    ]
    for seed, name in enumerate(names):
        write_photo(root / "Sp" / f"{name}.jpg", seed)
        write_mask(root / "Gt" / f"{name}_gt.png", (10 + seed, 20, 50, 44))
    for seed, name in enumerate(["Au_ani_0001.jpg", "Au_txt_0008.JPG", "Au_sec_0005.jpg"]):
        write_photo(root / "Au" / name, 100 + seed)
    return root


@pytest.fixture
def coco(tmp_path: Path) -> Coco:
    """Write a COCO source of two photos; keywords replace parts of its index."""

    def make(**changes: Any) -> Path:
        root = tmp_path / "coco"
        write_photo(root / "images" / "a.jpg", 1)
        write_photo(root / "images" / "b.jpg", 2)
        (root / "labels.json").write_text(json.dumps(coco_index(**changes)))
        return root

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set's folder of two photos, as the pipeline expects it."""
    root = tmp_path / "made"
    write_photo(root / "photos" / "a.jpg", 1)
    write_photo(root / "photos" / "sub" / "b.jpg", 2)
    write_mask(root / "masks" / "a.png", (10, 20, 40, 36))
    card = {
        "name": "made",
        "licence": "CC0",
        "source": "test",
        "boxes": "given",
        "split": "grouped",
    }
    (root / "dataset.yaml").write_text(yaml.safe_dump(card))
    images = [
        {"id": 1, "file_name": "a.jpg", "label": "manipulated", "mask": "masks/a.png"},
        {"id": 2, "file_name": "sub/b.jpg", "label": "authentic"},
    ]
    annotations = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 16]}]
    index = {"images": images, "annotations": annotations, "categories": []}
    (root / "boxes.json").write_text(json.dumps(index))
    return root


def by_name(source: Path, format: str | None = None, **said: bool) -> dict[str, Record]:
    """The records of a source."""
    return {record.name: record for record in registry.read(source, format, **said).records}


def sides(record: Record) -> list[tuple[float, ...]]:
    """A record's boxes, rounded."""
    boxes = [(box.x, box.y, box.width, box.height) for box in record.boxes]
    return [tuple(round(side, 3) for side in box) for box in boxes]
