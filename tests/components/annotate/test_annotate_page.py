"""The annotation page in a real browser: what is drawn, decided, lost and found again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from annotate_support import Desk, Served, annotating, decisions, scene
from axe_playwright_python.sync_playwright import Axe
from browsers import Browser
from PIL import Image

from components.core.images import open_photo

PHOTOS = 60
UMLAUTS = "Straße am Zürichsee, Blick 2.jpg"
PORTRAIT, LARGE = "portrait.jpg", "large.png"
ZOOMS = ((), ("+", "+", "+"), ("-", "-"))


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


def drag(desk: Desk, rng: np.random.Generator) -> np.ndarray:
    """A box drawn anywhere on what is seen of the photo; where it is in the photo."""
    scale, left, top = desk.view()
    stage = desk.page.locator("#canvas").bounding_box()
    width, height = desk.page.evaluate(
        "[...'wh'].map((_, n) => Number(document.querySelector('#canvas image')"
        ".getAttribute(['width', 'height'][n])))"
    )
    low = np.ceil([max(stage["x"], left), max(stage["y"], top)]) + 1
    high = [stage["x"] + stage["width"], stage["y"] + stage["height"]]
    high = np.floor(np.minimum(high, [left + width * scale, top + height * scale])) - 1
    start = np.floor(low + (high - low) * rng.uniform(0, 0.4, 2))
    end = np.floor(start + (high - start) * rng.uniform(0.3, 1, 2))
    box = (np.concatenate([start, end]) - [left, top, left, top]) / scale
    desk.page.keyboard.down("Shift")  # also inside a box that is there
    desk.draw(tuple(box))
    desk.page.keyboard.up("Shift")
    return box


def same(row: dict[str, object], wanted: np.ndarray) -> bool:
    return np.abs(np.array(row["boxes"]) - wanted).max() <= 1


def test_what_is_drawn_is_on_disk_at_three_zooms(
    browser: Browser,
    served: Served,
    workspace: Path,
    campaigns: bool,
    record_property: Callable[[str, object], None],
) -> None:
    desk, rng, drawn = Desk(browser, served, "Ada"), np.random.default_rng(11), {}
    times: list[float] = []
    for number in range(50 if campaigns else 9):
        name = desk.wait()
        desk.press(*ZOOMS[number % 3])
        boxes = []
        for count in range(1, 1 + rng.integers(1, 3)):
            boxes.append(drag(desk, rng))
            desk.masks(count)
            desk.press("Escape")
        drawn[name] = np.array(boxes)
        times += desk.page.evaluate(
            "performance.getEntriesByName('mask').map(entry => entry.duration)"
        )[-len(boxes) :]
        desk.decided("Enter")
    found = decisions(workspace)
    assert all(same(found[name, "Ada"], boxes) for name, boxes in drawn.items())
    assert not desk.complaints
    record_property("boxes", len(times))
    record_property("ms from mouse-up to mask, median", round(float(np.median(times))))
    record_property("ms, 95th percentile", round(float(np.quantile(times, 0.95))))


def test_all_of_it_by_keyboard(browser: Browser, served: Served, workspace: Path) -> None:
    desk = Desk(browser, served, "Kim")
    first = desk.wait()
    desk.press("b")
    desk.masks(1)
    text = desk.page.locator("#boxes").inner_text
    added = text().splitlines()[0]
    desk.press("Alt+ArrowRight", "Alt+ArrowDown", "Alt+ArrowDown")
    desk.press("Alt+Shift+ArrowRight", "z", "z", "y")
    moved = text().splitlines()[0]
    size, place = (np.array(part.replace("×", ",").split(","), int) for part in moved.split(" at "))
    old_size, old_place = (
        np.array(part.replace("×", ",").split(","), int) for part in added.split(" at ")
    )
    assert (place - old_place).tolist() == [1, 2]
    assert (size - old_size).tolist() == [0, 0]
    desk.press("b", "s", "s", "Delete", "z")
    assert desk.page.locator("#boxes li").count() == 2
    desk.masks(2)
    second = desk.decided("Enter")
    assert decisions(workspace)[first, "Kim"]["boxes"][0] == [*place, *(place + size)]
    third = desk.decided("a")
    fourth = desk.decided("c")
    desk.decided("n")
    marks = {name: decisions(workspace)[name, "Kim"]["mark"] for name in (second, third, fourth)}
    assert list(marks.values()) == ["authentic", "cannot tell", "not usable"]
    for name in (fourth, third, second, first):
        desk.press("[")
        desk.shows(name)
    desk.masks(2)
    assert "you decided: manipulated" in desk.page.locator("#facts").inner_text()
    desk.decided("a")
    assert decisions(workspace)[first, "Kim"]["mark"] == "authentic"
    assert decisions(workspace)[first, "Kim"]["boxes"] == []
    desk.press("?")
    assert desk.page.locator("#keys").is_visible()
    desk.press("Escape")
    assert not desk.page.locator("#keys").is_visible()
    assert not desk.complaints


def test_boxes_are_moved_resized_deleted_and_restored_by_mouse(
    browser: Browser, served: Served
) -> None:
    desk = Desk(browser, served, "Mo")
    desk.draw((50, 50, 150, 150))
    desk.draw((250, 50, 300, 120))
    rows = lambda: desk.page.locator("#boxes button").evaluate_all(  # noqa: E731
        "all => all.map(one => one.firstChild.textContent)"
    )
    assert rows() == ["100 × 100 at 50, 50", "50 × 70 at 250, 50"]
    desk.draw((100, 100, 120, 130))  # from inside: it moves
    assert rows()[0] == "100 × 100 at 70, 80"
    desk.draw((170, 180, 200, 200))  # from the corner: it grows
    assert rows()[0] == "130 × 120 at 70, 80"
    desk.page.keyboard.down("Shift")
    desk.draw((80, 90, 110, 110))  # inside another
    desk.page.keyboard.up("Shift")
    assert len(rows()) == 3
    desk.page.locator("#delete").click()
    assert len(rows()) == 2
    for _ in range(3):
        desk.page.locator("#undo").click()
    assert rows()[0] == "100 × 100 at 70, 80"
    desk.page.locator("#redo").click()
    assert rows()[0] == "130 × 120 at 70, 80"
    before = desk.view()
    desk.page.keyboard.down("Space")
    desk.draw((10, 10, 60, 40))
    desk.page.keyboard.up("Space")
    moved = np.array(desk.view()) - before
    assert np.abs(moved - [0, 50 * before[0], 30 * before[0]]).max() <= 2
    assert len(rows()) == 2


def test_a_reload_keeps_person_photo_and_boxes(browser: Browser, served: Served) -> None:
    desk = Desk(browser, served, "Ren")
    desk.decided("a")
    name = desk.wait()
    desk.draw((60, 60, 200, 200))
    desk.masks(1)
    assert served.token not in desk.page.url
    desk.page.reload()
    assert desk.wait() == name
    desk.masks(1)
    assert "140 × 140 at 60, 60" in desk.page.locator("#boxes").inner_text()
    assert not desk.complaints


def test_only_attention_counts(browser: Browser, served: Served, workspace: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.clock.install()
    desk = Desk(browser, served, "Sol", page=page)
    name = desk.wait()
    for _ in range(5):
        desk.page.mouse.move(100, 100)
        desk.page.mouse.move(200, 200)
        page.clock.run_for(10_000)
    page.clock.run_for(600_000)  # nobody is there: 15 s of it count
    page.evaluate("Object.defineProperty(document, 'visibilityState', {value: 'hidden'})")
    for _ in range(5):
        desk.page.mouse.move(100, 100)
        desk.page.mouse.move(200, 200)
        page.clock.run_for(10_000)
    desk.press("a")
    page.locator("#message:not(:empty)").wait_for()
    assert 50 <= decisions(workspace)[name, "Sol"]["seconds"] <= 62


def test_photos_of_all_kinds(
    tmp_path: Path, browser: Browser, record_property: Callable[[str, object], None]
) -> None:
    upright = scene(tmp_path / "upright.png", 300, 500, 1)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    photos = tmp_path / "photos"
    photos.mkdir()
    sideways = Image.open(upright).transpose(Image.Transpose.ROTATE_90)
    sideways.save(photos / PORTRAIT, exif=exif, quality=95)
    scene(photos / UMLAUTS, 500, 400, 2)
    scene(photos / LARGE, 6000, 4000, 3)
    (photos / "broken.jpg").write_bytes(b"\xff\xd8 no photo")
    rng, drawn = np.random.default_rng(5), {}
    with annotating(tmp_path, "photos", "--into", "kinds") as served:
        desk = Desk(browser, served, "Ada")
        for wanted in (UMLAUTS, "broken.jpg", LARGE, PORTRAIT):
            assert desk.wait() == wanted
            if desk.page.locator("#problem").is_visible():
                desk.decided("n")
                continue
            desk.press("+", "+")
            drawn[wanted] = drag(desk, rng)
            desk.masks(1)
            if wanted == LARGE:
                time = desk.page.evaluate("performance.getEntriesByName('mask').at(-1).duration")
                record_property("ms to the mask on 24 megapixels", round(time))
            desk.decided("Enter")
        assert "No photo is left" in desk.page.locator("#done").inner_text()
        # The page's own error is said, the browser's is not of a script.
        assert not [text for text in desk.complaints if "Failed to load" not in text]
        served.stop()
    found = decisions(tmp_path)
    assert all(same(found[name, "Ada"], box) for name, box in drawn.items())
    assert (found[PORTRAIT, "Ada"]["width"], found[PORTRAIT, "Ada"]["height"]) == (300, 500)
    assert open_photo(photos / PORTRAIT).shape == (500, 300, 3)
    assert found["broken.jpg", "Ada"]["mark"] == "not usable"
    index = json.loads((tmp_path / "data/kinds/boxes.json").read_text(encoding="utf-8"))
    assert {image["file_name"] for image in index["images"]} == set(drawn)


def test_two_people_share_the_photos(tmp_path: Path, browser: Browser) -> None:
    for number in range(8):
        scene(tmp_path / f"photos/{number}.jpg", 400, 300, number)
    with annotating(tmp_path, "photos", "--into", "two", "--overlap", "0.4", "--json") as served:
        desks = [Desk(browser, served, name) for name in ("Ada", "Ben Ö.")]
        for turn in range(20):
            desk = desks[turn % 2]
            if desk.page.locator("#done").is_visible():
                continue
            desk.draw((90 + 4 * (turn % 2), 80, 240, 220))
            desk.masks(1)
            desk.decided("Enter")
        assert all(desk.page.locator("#done").is_visible() for desk in desks)
        said = json.loads(served.stop())
    found = decisions(tmp_path)
    both = {name for name, _ in found if {(name, "Ada"), (name, "Ben Ö.")} <= found.keys()}
    assert {name for name, _ in found} == {f"{number}.jpg" for number in range(8)}
    assert 0 < len(both) < 8
    assert said["agreement"]["photos"] == len(both)
    assert said["agreement"]["mean_iou"] == pytest.approx(146 / 150, abs=0.02)
    assert (said["added"], said["left_out"]) == (8, [])


def test_a_killed_server_loses_nothing(tmp_path: Path, browser: Browser, campaigns: bool) -> None:
    kills = 5 if campaigns else 1
    for number in range(2 * kills + 2):
        scene(tmp_path / f"photos/{number:02d}.jpg", 400, 300, number)
    told: list[str] = []
    for _ in range(kills):
        with annotating(tmp_path, "photos", "--into", "killed") as served:
            desk = Desk(browser, served, "Ada")
            for _ in range(2):
                told.append(desk.wait())
                desk.draw((60, 60, 260, 250))
                desk.decided("Enter")
            open_now = desk.wait()
            desk.draw((60, 60, 260, 250))
            served.kill()
            desk.press("Enter")
            desk.page.wait_for_function("document.getElementById('error').textContent")
            assert "does not answer" in desk.page.locator("#error").inner_text()
            assert desk.page.locator("#boxes li").count() == 1
        assert [name for name, _ in sorted(decisions(tmp_path))] == told
    with annotating(tmp_path, "photos", "--into", "killed") as served:
        desk = Desk(browser, served, "Ada")
        assert desk.wait() == open_now
        desk.press("[")
        desk.shows(told[-1])
        desk.masks(1)
        served.stop()
    assert (tmp_path / "data/killed/boxes.json").exists()


@pytest.mark.parametrize("width", [1200, 400])
def test_it_can_be_used_by_everybody(browser: Browser, served: Served, width: int) -> None:
    axe = Axe()

    def complaints() -> str:
        found = axe.run(desk.page)
        return found.generate_report() if found.violations_count else ""

    desk = Desk(browser, served, "", width=width)
    assert complaints() == ""
    desk.enter("Eve")
    desk.draw((60, 60, 200, 200))
    desk.masks(1)
    assert complaints() == ""
    assert desk.page.evaluate("document.documentElement.scrollWidth") <= width
    desk.press("?")
    assert complaints() == ""
    desk.press("Escape", "Escape", "Delete", "Enter")
    assert complaints() == ""  # with an error said


def test_the_focus_goes_along_the_page(browser: Browser, served: Served) -> None:
    desk = Desk(browser, served, "Fay")
    desk.press("b")
    desk.masks(1)
    reached = []
    for _ in range(12):
        desk.press("Tab")
        reached.append(
            desk.page.evaluate("document.activeElement.id || document.activeElement.tagName")
        )
    order = ["BUTTON", "add", "delete", "undo", "save", "authentic", "cannot", "unusable", "back"]
    assert reached[: len(order)] == order
