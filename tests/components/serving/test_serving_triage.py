"""The triage page in a real browser: filter, slider, sort, look, tick, export; fast at 500."""

from __future__ import annotations

import csv
import json
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from browsers import Page, Pages

from components.core.files import write_bytes
from components.evaluate.pictures import encoded
from components.serving import triage as scoring
from components.serving.table import SCORES

HOSTILE = "<script>alert(1)</script>\"'&,{{ 7*7 }}.jpg"
SETTINGS = {"source": "desk/<b>", "model": "m@champion", "weights_sha256": "ab" * 32}


def row(name: str, score: float | None, area: float | None, **more: object) -> dict[str, object]:
    known = {"name": name, "status": "scored", "score": score, "area": area}
    return {**dict.fromkeys(SCORES.names), **known, "width": 90, "height": 60, **more}


def written(out: Path, rows: list[dict[str, object]], settings: dict[str, object]) -> Path:
    triage = scoring.Triage()
    triage.add(sorted(rows, key=lambda row: row["name"]))
    triage.write(out, settings)
    return out / scoring.PAGE


def overlay(out: Path, name: str, side: int = 600) -> str:
    random = np.random.default_rng(len(name))
    small = random.integers(0, 255, (side // 30, side // 20, 3), dtype=np.uint8)
    large = small.repeat(20, axis=0).repeat(20, axis=1)
    write_bytes(out / scoring.overlay(name), encoded(large, 90))
    return scoring.overlay(name)


@pytest.fixture
def page(tmp_path: Path, browse: Pages) -> Page:
    """Six scored photos, one that is too small and one that is broken."""
    scores = {"a.jpg": 0.91, "b.jpg": 0.7, "sub/c.jpg": 0.5, "=d.jpg": 0.3, HOSTILE: 0.2, "f": 0.0}
    rows = [row(name, score, score / 10, sha256="0" * 64) for name, score in scores.items()]
    for name in scores:
        overlay(tmp_path, name)
    rows.append(row("tiny.jpg", None, None, status="abstained", reason="too small (90x20)"))
    rows.append(row("bad.jpg", None, None, status="failed", reason="cut off", width=None))
    return browse.open(written(tmp_path, rows, SETTINGS))


def shown(page: Page) -> list[str]:
    cards = page.locator("[data-card]:visible").all()
    return [card.get_attribute("data-card") or "" for card in cards]


def test_all_are_shown_by_score_and_names_are_text(page: Page) -> None:
    first = ["a.jpg", "b.jpg", "sub/c.jpg", "=d.jpg", HOSTILE, "f"]
    assert shown(page) == [*first, "bad.jpg", "tiny.jpg"]
    assert "too small (90x20)" in page.locator('[data-card="tiny.jpg"]').inner_text()
    assert page.locator("h1").inner_text() == "Triage of desk/<b>"
    assert "iml annotate /" in page.locator("p code").inner_text()
    assert page.locator("b:not(#viewer-name)").count() == 0


def test_slider_counts_photos_at_or_above_it(page: Page) -> None:
    above = page.locator("#above")
    assert above.inner_text() == "6 of 6 scored photos are at or above"
    page.locator("#score").fill("50")
    assert above.inner_text() == "3 of 6 scored photos are at or above"
    assert page.locator("#at").inner_text() == "0.50"
    assert shown(page) == ["a.jpg", "b.jpg", "sub/c.jpg"]
    page.locator("#score").focus()
    page.keyboard.press("ArrowRight")
    assert above.inner_text() == "2 of 6 scored photos are at or above"
    assert page.locator("#shown").inner_text() == "2 of 8 shown, 0 ticked"


def test_filters_and_sorting(page: Page) -> None:
    page.get_by_label("Marked area from, percent").fill("3")
    page.get_by_label("Marked area up to, percent").fill("7")
    assert shown(page) == ["b.jpg", "sub/c.jpg", "=d.jpg"]
    page.get_by_label("Marked area from, percent").fill("")
    page.get_by_label("Marked area up to, percent").fill("")
    page.get_by_label("Status").select_option("abstained")
    assert shown(page) == ["tiny.jpg"]
    page.get_by_label("Status").select_option("all")
    page.get_by_label("Name contains").fill("SUB/")
    assert shown(page) == ["sub/c.jpg"]
    page.get_by_label("Name contains").fill("")
    page.get_by_label("Sort by").select_option("name")
    assert shown(page) == sorted(shown(page))
    page.get_by_label("Sort by").select_option("score, lowest first")
    assert shown(page)[:2] == ["f", HOSTILE]
    page.get_by_label("Sort by").select_option("marked area, largest first")
    assert shown(page)[0] == "a.jpg"


def test_a_photo_opens_large_and_the_keyboard_works(page: Page) -> None:
    opener = page.get_by_role("button", name="Open b.jpg large")
    opener.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("#viewer")
    assert dialog.is_visible()
    picture = dialog.locator("img")
    page.wait_for_function("document.querySelector('#viewer img').naturalWidth === 600")
    assert picture.get_attribute("src") == scoring.overlay("b.jpg")  # not the small one
    page.keyboard.press("ArrowRight")
    assert dialog.locator("#viewer-name").inner_text() == "sub/c.jpg"
    assert "5.0 % marked" in dialog.locator("#viewer-facts").inner_text()
    dialog.get_by_label("ticked").check()
    page.keyboard.press("Escape")
    assert dialog.is_hidden()
    assert opener.evaluate("element => element === document.activeElement")
    assert page.get_by_label("Tick sub/c.jpg").is_checked()
    assert page.locator("#shown").inner_text() == "8 of 8 shown, 1 ticked"


def test_alone_the_page_opens_its_small_pictures(tmp_path: Path, browse: Pages) -> None:
    overlay(tmp_path, "a.jpg")
    path = written(tmp_path, [row("a.jpg", 0.5, 0.1)], SETTINGS)
    (tmp_path / scoring.overlay("a.jpg")).unlink()
    page = browse.open(path)
    page.get_by_role("button", name="Open a.jpg large").click()
    page.wait_for_function("document.querySelector('#viewer img').naturalWidth === 320")
    assert [text for text in browse.complaints if "ERR_FILE_NOT_FOUND" not in text] == []
    browse.complaints.clear()


def saved(page: Page, button: str) -> Path:
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    return Path(download.value.path())


def test_what_is_ticked_is_exported(page: Page) -> None:
    for button in ("Ticked as CSV", "Ticked as a list of paths", "Untick all"):
        assert page.get_by_role("button", name=button).is_disabled()
    page.get_by_label("Score at least").fill("60")
    page.get_by_role("button", name="Tick all shown").click()
    page.get_by_label("Score at least").fill("0")
    for name in (HOSTILE, "=d.jpg", "tiny.jpg"):
        page.locator("[data-card]", has_text=name).get_by_role("checkbox").check()
    page.get_by_label("Status").select_option("ticked")
    assert shown(page) == ["a.jpg", "b.jpg", "=d.jpg", HOSTILE, "tiny.jpg"]
    with saved(page, "Ticked as CSV").open(newline="") as file:
        rows = list(csv.DictReader(file))
    # "./" keeps a spreadsheet from taking a name for a formula.
    assert [r["name"] for r in rows] == ["a.jpg", "b.jpg", "./=d.jpg", HOSTILE, "tiny.jpg"]
    assert (rows[0]["score"], rows[0]["area"], rows[0]["width"]) == ("0.91", "0.091", "90")
    assert (rows[-1]["status"], rows[-1]["reason"]) == ("abstained", "too small (90x20)")
    assert rows[-1]["score"] == ""
    listed = saved(page, "Ticked as a list of paths").read_text().splitlines()
    assert listed == [f"desk/<b>/{n}" for n in ("a.jpg", "b.jpg", "=d.jpg", HOSTILE, "tiny.jpg")]
    page.get_by_role("button", name="Untick all").click()
    assert shown(page) == []


def test_the_page_says_what_the_scores_belong_to(tmp_path: Path) -> None:
    more = {"version": "m/3", "made_at": "2026-11-28T02:00:00Z", "program": "boxpromptiml 0.1.0"}
    html = written(tmp_path, [row("a.jpg", 0.5, 0.1)], {**SETTINGS, **more}).read_text()
    for value in ("m@champion", "ab" * 32, *more.values()):
        assert f"<dd>{value}</dd>" in html
    assert "Version" not in written(tmp_path, [row("a.jpg", 0.5, 0.1)], SETTINGS).read_text()


def test_what_does_not_fit_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "SHOWN", 3)
    rows = [row(f"{number}.jpg", number / 10, 0.1) for number in range(8)]
    html = written(tmp_path, rows, SETTINGS).read_text()
    assert html.count("data-card=") == 3
    assert "5 photos are not on this page" in html
    (above,) = re.findall(r'"above": (\[[^]]*\])', html)
    assert json.loads(above)[::50] == [8, 3, 0]
    triage = scoring.Triage()
    triage.add(rows)
    assert triage.floor == 0.5


def test_500_photos_are_one_small_file_that_opens_fast(tmp_path: Path, browse: Pages) -> None:
    rows = [row(f"desk/{number:04d}.jpg", number / 500, 0.1) for number in range(500)]
    pictures = [tmp_path / overlay(tmp_path, str(number), 640) for number in range(20)]
    for number, one in enumerate(rows):
        shutil.copy(pictures[number % 20], tmp_path / scoring.overlay(one["name"]))
    path = written(tmp_path, rows, SETTINGS)
    assert path.stat().st_size < 20e6
    assert not re.search(r"https?:|url\(|@import|<link|<iframe", path.read_text())
    started = time.monotonic()
    page = browse.open(path)
    page.locator("[data-card]").first.wait_for()
    assert time.monotonic() - started < 15  # 1.5 s on two busy cores
    took = page.evaluate(
        """async () => {
            const started = performance.now(), slider = document.getElementById("score");
            slider.value = 90;
            slider.dispatchEvent(new Event("input", { bubbles: true }));
            await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
            return performance.now() - started;
        }"""
    )
    assert took < 2000  # 40 ms
    assert page.locator("#above").inner_text() == "50 of 500 scored photos are at or above"
    assert browse.fits(path)
