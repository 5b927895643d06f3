"""A tiny data set with pseudo-masks: grey noise with one bright square where it is manipulated."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from small_students import small_settings

from components.core.files import sha256_file
from components.core.images import save_grey, save_photo
from components.core.params import Distill
from components.data import manifest
from components.data.manifest import Manifest
from components.distill.examples import Example, collect


@dataclass(frozen=True)
class Made:
    """Where things lie: `root/data/tiny`, `root/runs/prepare`, `root/runs/pseudo_label`."""

    root: Path
    manifest: Manifest

    @property
    def dataset(self) -> Path:
        return self.root / "data"

    @property
    def pseudo(self) -> Path:
        return self.root / "runs/pseudo_label"

    def examples(self, **changes: object) -> list[Example]:
        told = small_settings(**changes)
        return collect(self.manifest, self.dataset, self.pseudo, told)


@pytest.fixture(autouse=True)
def steady_torch(monkeypatch, tmp_path):
    """Threads and determinism are process-wide: put them back; caches go to this test's folder."""
    monkeypatch.setenv("IML_STATE", str(tmp_path / "state"))
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)


@pytest.fixture(scope="session")
def settings() -> Callable[..., Distill]:
    return small_settings


def _photo(draw: np.random.Generator, manipulated: bool) -> tuple[np.ndarray, np.ndarray]:
    height, width = (int(side) for side in draw.integers(70, 100, 2))
    photo = draw.integers(60, 110, (height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), np.uint8)
    if manipulated:
        y, x = (int(place) for place in draw.integers(0, 35, 2))
        photo[y : y + 32, x : x + 32] += 120
        mask[y : y + 32, x : x + 32] = 230
    return photo, mask


def _row(image_id: str, path: Path, shape: tuple[int, ...], label: str, split: str) -> dict:
    empty = dict.fromkeys(["mask_path", "mask_sha256", "mask_width", "mask_height", "kind"])
    return empty | {
        "image_id": image_id,
        "dataset": "tiny",
        "pool": False,
        "path": f"tiny/photos/{image_id}",
        "sha256": sha256_file(path),
        "width": shape[1],
        "height": shape[0],
        "label": label,
        "split": split,
        "group": image_id,
        "source": "made",
        "phash": "0" * 16,
        "n_boxes": int(label == manifest.MANIPULATED),
    }


@pytest.fixture
def made(tmp_path) -> Made:
    """10 training, 4 validation and 2 test photos, half of them manipulated."""
    return make(tmp_path)


def make(root: Path) -> Made:
    draw, rows, labels = np.random.default_rng(5), [], []
    for number in range(16):
        manipulated = number % 2 == 0
        split = "train" if number < 10 else "val" if number < 14 else "test"
        image_id = f"sub/p{number:02d}.png"
        photo, mask = _photo(draw, manipulated)
        path = root / "data/tiny/photos" / image_id
        save_photo(path, photo)
        label = manifest.MANIPULATED if manipulated else manifest.AUTHENTIC
        rows.append(_row(image_id, path, photo.shape, label, split))
        if manipulated:
            save_grey(root / "runs/pseudo_label/masks" / f"{image_id}.png", mask)
            confidence = 0.5 + number / 40
            labels.append({"image_id": image_id, "accepted": True, "confidence": confidence})
    pd.DataFrame(labels).to_parquet(root / "runs/pseudo_label/labels.parquet")
    boxes = pd.DataFrame(columns=manifest.BOXES.names)
    found = Manifest(pd.DataFrame(rows), boxes)
    manifest.write(root / "runs/prepare", found)
    return Made(root, found)
