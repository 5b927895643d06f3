"""The contact sheet: every photo's name and number under the headings of its section."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.core.images import open_photo, save_grey, save_photo
from components.pseudo_label import sheet
from components.pseudo_label.sheet import Case, contact_sheet, pick


@pytest.fixture
def case(tmp_path: Path) -> Case:
    save_photo(tmp_path / "p.png", np.full((60, 90, 3), 120, dtype=np.uint8))
    mask = np.zeros((60, 90), dtype=np.uint8)
    mask[10:30, 20:50] = 255
    save_grey(tmp_path / "m.png", mask)
    boxes = np.array([[20.0, 10.0, 50.0, 30.0]])
    files = tmp_path / "p.png", boxes, tmp_path / "m.png", tmp_path / "m.png"
    return Case("Best by IoU", "desk/фото-1.jpg", "IoU 0.981", 1, *files)


def drawn(case: Case | None, folder: Path) -> np.ndarray:
    contact_sheet(folder / "sheet.png", [case] if case else [])
    return open_photo(folder / "sheet.png")


def test_name_figure_and_headings_are_written(case: Case, tmp_path: Path) -> None:
    whole = drawn(case, tmp_path)
    for change, strip in (
        ({"name": "desk/other.jpg"}, slice(-32, None)),
        ({"figure": "IoU 0.512"}, slice(-32, None)),
        ({"section": "Worst by IoU"}, slice(32, 64)),
    ):
        other = drawn(Case(**{**vars(case), **change}), tmp_path)
        different = (other != whole).any(axis=(1, 2))
        assert different[strip].any()
        assert not np.delete(different, np.arange(len(whole))[strip]).any()
    columns = whole[64:88, :, 0] < 128
    assert all(columns[:, left : left + 100].any() for left in (8, 272, 536))


def test_nothing_to_show_is_said(tmp_path: Path) -> None:
    assert (drawn(None, tmp_path) < 100).any()


@pytest.mark.parametrize("name", ["a.jpg", "x" * 300 + "-7.jpg", "line\nbreak\x1b.jpg", "日本.jpg"])
def test_names_fit_and_are_printable(name: str) -> None:
    short = sheet._shortened(name, 13, 300)
    assert sheet._font(13).getlength(short) <= 300
    assert short.isprintable()
    assert short.endswith(name[-4:])


def test_sections_are_in_order_and_say_by_what() -> None:
    labels = pd.DataFrame(
        {
            "image_id": [f"{n}.png" for n in range(12)],
            "iou_vs_mask": [np.nan] * 12,
            "confidence": [n / 12 for n in range(12)],
        }
    )
    found = pick(labels)
    assert [section for section, _, _ in found[::3]] == [
        "Best by confidence",
        "Median by confidence",
        "Worst by confidence",
    ]
    assert found[0] == ("Best by confidence", "11.png", "confidence 0.917")
    assert found[-1][1] == "0.png"
