"""Which photos a decision's page shows, and whose answers beside each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.core.files import sha256_file
from components.core.images import save_photo
from components.data.manifest import BOXES, IMAGES, Manifest
from components.evaluate.gallery import Album
from components.evaluate.run import IMAGES as RESULTS
from components.registry import decisions
from components.registry.decisions import Exhibit, photos


@pytest.fixture
def album(tmp_path: Path) -> Album:
    """Thirty-two manipulated photos without masks and three authentic ones."""
    rows = []
    for number in range(35):
        name = f"{number:02d}.png"
        photo = np.full((12, 16, 3), number, dtype=np.uint8)
        save_photo(tmp_path / name, photo)
        row = dict.fromkeys(IMAGES.names) | {"image_id": name, "path": name, "width": 16}
        label = "authentic" if number > 31 else "manipulated"
        digest = sha256_file(tmp_path / name)
        rows.append(row | {"height": 12, "label": label, "sha256": digest})
    images = pd.DataFrame(rows, columns=IMAGES.names)
    return Album(Manifest(images, pd.DataFrame(columns=BOXES.names)), tmp_path)


def exhibit(version: int, album: Album, f1: dict[int, float], area: float) -> Exhibit:
    rows = []
    for number, row in enumerate(album.photos.images.to_dict("records")):
        known = {"image_id": row["image_id"], "label": row["label"], "score": 0.5, "iou": 0.1}
        if row["label"] == "authentic":
            known |= {"area": area * (number - 31), "false_alarm_area": area * (number - 31)}
        else:
            known |= {"area": 0.1, "f1": f1.get(number, number / 40)}
        rows.append({**dict.fromkeys(RESULTS.names, np.nan), **known})
    found = pd.DataFrame(rows, columns=RESULTS.names)
    return Exhibit(
        version, found, lambda photos: [np.ones(p.shape[:2], np.float32) for p in photos]
    )


def names(sections: dict, title: str) -> list[str]:
    return [example.name for example in sections[title]]


def test_worst_best_false_alarms_and_differences(album: Album) -> None:
    ours = exhibit(3, album, {}, 0.1)
    champion = exhibit(2, album, {5: 0.9, 20: 0.2}, 0.3)
    unseen = champion.images[champion.images["image_id"] != "01.png"]
    sections = photos(album, ours, Exhibit(2, unseen, champion.predict))
    assert names(sections, "Worst 20 by F1") == [f"{number:02d}.png" for number in range(20)]
    assert names(sections, "Best") == [f"{number}.png" for number in range(31, 23, -1)]
    assert names(sections, "Largest false alarms") == ["34.png", "33.png", "32.png"]
    assert names(sections, "Where the two differ most") == [
        "05.png",
        "34.png",
        "33.png",
        "20.png",
        "32.png",
    ]
    first = sections["Where the two differ most"][0]
    assert [what for what, _ in first.pictures] == ["photo", "version 3", "champion 2"]
    assert first.facts.startswith("version 3: F1 0.125")
    assert "champion 2: F1 0.900" in first.facts
    left_out = sections["Worst 20 by F1"][1]  # the champion knows this photo
    assert [what for what, _ in left_out.pictures] == ["photo", "version 3"]


def test_the_first_champion_is_shown_alone(album: Album) -> None:
    sections = photos(album, exhibit(1, album, {}, 0.0), None)
    assert list(sections) == ["Worst 20 by F1", "Best"]
    assert decisions.WORST == 20
