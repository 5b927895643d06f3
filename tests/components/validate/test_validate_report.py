"""The page: self-contained, escaped, the same bytes for the same report, and its counts right."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
from browsers import Pages
from validate_support import Made

from components.validate.report import area_shares, boxes_per_photo, render
from components.validate.tables import related

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>\x1b[31m.jpg'


def page(made: Made) -> str:
    return render(made.judge(), made.manifest)


def test_nothing_is_loaded_from_anywhere(made: Made) -> None:
    made.set_box(0, -1, 10, 60, 50)
    text = page(made)
    assert not re.search(r"https?:|//[a-z]|url\(|@import|<script|<link|<img|<iframe", text, re.I)
    assert not re.search(r"\s(src|href)\s*=", text)


def test_hostile_names_are_text(made: Made) -> None:
    made.add_box(HOSTILE, 10, 10, 50, 50)
    made.set_photo(2, label=HOSTILE, group=HOSTILE)
    text = page(made)
    assert "<script" not in text
    assert "<img" not in text
    assert "\x1b" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_verdicts(made: Made) -> None:
    assert "<b>Passed</b>" in page(made)
    made.set_box(0, 0, 0, 200, 100)
    assert "<b>Passed with 1 warning</b>" in page(made)
    made.set_box(1, -1, 0, 90, 90)
    made.set_photo(2, group=None)
    text = page(made)
    assert "<b>Stopped: 2 critical checks failed</b>" in text
    assert "There is 1 warning as well." in " ".join(text.split())


def test_a_failure_says_which_rows_and_how_to_mend(made: Made) -> None:
    for number in (1, 3, 5, 7):
        made.drop_boxes(f"photo-{number:02d}.jpg")
    text = " ".join(page(made).split())
    assert "manipulated photos in train or val without a box: 3 of 6" in text
    assert "draw a box round each manipulated region" in text
    made.images["group"] = "all"
    assert all(f"<code>photo-{n:02d}.jpg</code>" in page(made) for n in range(16))


def test_long_names_fit_a_narrow_window(made: Made, tmp_path: Path, browse: Pages) -> None:
    for number in (1, 3, 5, 7):
        made.drop_boxes(f"photo-{number:02d}.jpg")
    made.add_box("x" * 300 + ".jpg", 10, 10, 50, 50)
    (tmp_path / "report.html").write_text(page(made))
    assert browse.fits(tmp_path / "report.html")


def test_equal_reports_give_equal_pages(made: Made) -> None:
    made.set_box(0, -1, 10, 60, 50)
    assert page(made) == page(made)


def test_area_shares_are_counted_by_bin(made: Made) -> None:
    made.boxes = made.boxes.iloc[:0]
    for corners in ((0, 0, 10, 10), (0, 0, 10, 30), (0, 0, 20, 30), (0, 0, 200, 100)):
        made.add_box("photo-01.jpg", *corners)
    made.add_box("photo-01.jpg", np.nan, 0, 10, 10)
    made.add_box("nobody.jpg", 0, 0, 10, 10)
    assert [count for _, count in area_shares(made.manifest, related(made.manifest))] == [
        1,
        1,
        1,
        0,
        0,
        0,
        1,
    ]


def test_area_bins_are_named(made: Made) -> None:
    names = [name for name, _ in area_shares(made.manifest, related(made.manifest))]
    assert names[0] == "0-1 %"
    assert names[-1] == "over 50 %"


def test_boxes_per_photo_count_manipulated_photos(made: Made) -> None:
    made.drop_boxes("photo-01.jpg")
    for shift in range(7):
        made.add_box("photo-03.jpg", 10 + shift, 10, 60, 50)
    counts = dict(boxes_per_photo(made.images, related(made.manifest)))
    assert counts == {"0": 1, "1": 0, "2": 6, "3": 0, "4": 0, "5 or more": 1}


def test_the_page_shows_photos_by_split_and_class(made: Made) -> None:
    rows = made.images["split"].eq("test") & made.images["label"].eq("authentic")
    copies = pd.concat([made.images] + [made.images[rows]] * 500, ignore_index=True)
    copies["image_id"] = [f"{n}.jpg" for n in range(len(copies))]
    made.images = copies
    text = page(made)
    chart = text[text.index("by split and class") : text.index("Boxes per photo")]
    found = re.findall(r">([^<]+)</text>", chart)
    assert dict(zip(found[::2], found[1::2], strict=True)) == {
        "train, authentic": "4",
        "train, manipulated": "4",
        "val, authentic": "2",
        "val, manipulated": "2",
        "test, authentic": "1,002",
        "test, manipulated": "2",
    }
