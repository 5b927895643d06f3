"""The annotation page in a real browser: what is drawn, decided, lost and found again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from annotate_support import Desk, Served, annotating, decisions, scene
from browsers import Browser

PHOTOS = 40
UMLAUTS = "Straße am Zürichsee, Blick 2.jpg"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("annotate")
    for number in range(PHOTOS):
        scene(folder / f"photos/{number:02d}.jpg", 400 + 8 * number, 300, number)
    return folder


@pytest.fixture(scope="module")
def served(workspace: Path) -> Iterator[Served]:
    with annotating(workspace, "photos", "--into", "desk") as served:
        yield served


def test_a_box_its_mask_and_a_decision(browser: Browser, served: Served, workspace: Path) -> None:
    desk = Desk(browser, served, "Ada")
    first = desk.wait()
    desk.draw((60, 60, 260, 250))
    desk.masks(1)
    assert "% sure" in desk.page.locator("#boxes").inner_text()
    assert desk.decided("Enter") != first
    row = decisions(workspace)[first, "Ada"]
    assert row["mark"] == "manipulated"
    assert np.abs(np.array(row["boxes"]) - [60, 60, 260, 250]).max() <= 1
    assert row["teacher"] == "sam_lite"
    assert len(row["confidences"]) == 1
    assert not desk.complaints
