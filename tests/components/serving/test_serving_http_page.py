"""The page of `iml serve` in a real browser: choose, drop, see, and read what went wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from browsers import Page, Pages
from PIL import Image
from served import Served, serving
from small_students import small_student

from components.core.images import save_grey, save_photo
from components.export.onnx import save

PHONE, DESKTOP = 360, 1200


@pytest.fixture(scope="module")
def server(student_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(student_folder, tmp_path_factory.mktemp("page"), "--max-mb", "2") as served:
        yield served


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "a photo.png"
    random = np.random.default_rng(0)
    small = random.integers(0, 255, (12, 16, 3), dtype=np.uint8)
    save_photo(path, small.repeat(20, axis=0).repeat(20, axis=1))
    return path


def answered(page: Page) -> None:
    page.locator("#answer").wait_for()
    page.wait_for_function("[...document.images].every(one => one.hidden || one.naturalWidth > 0)")


def choose(page: Page, photo: Path) -> None:
    page.set_input_files("#file", photo)
    answered(page)


def violations(page: Page) -> list[str]:
    return [found["id"] for found in Axe().run(page).response["violations"]]


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_a_chosen_photo_is_answered(server: Served, browse: Pages, photo: Path, width: int) -> None:
    page = browse.open(server.address, width)
    assert violations(page) == []
    choose(page, photo)
    assert "Score 0." in page.locator("#verdict b").inner_text()
    assert "320 x 240 pixels" in page.locator("#facts").inner_text()
    assert "a photo.png" in page.locator("#status").inner_text()
    shown = page.locator("#photo").bounding_box()
    assert shown == page.locator("#overlay").bounding_box()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert violations(page) == []


def test_the_outlines_fade(server: Served, browse: Pages, photo: Path) -> None:
    page = browse.open(server.address)
    choose(page, photo)
    page.locator("#opacity").focus()
    page.keyboard.press("Home")
    assert page.locator("#overlay").evaluate("one => one.style.opacity") == "0"
    page.keyboard.press("End")
    assert page.locator("#overlay").evaluate("one => one.style.opacity") == "1"


def test_the_mask_can_be_saved(server: Served, browse: Pages, photo: Path) -> None:
    page = browse.open(server.address)
    choose(page, photo)
    with page.expect_download() as download:
        page.locator("#mask").click()
    assert download.value.suggested_filename == "a photo.mask.png"
    assert download.value.path().read_bytes().startswith(b"\x89PNG")


def test_a_photo_can_be_dropped(server: Served, browse: Pages) -> None:
    page = browse.open(server.address)
    page.evaluate(
        """async () => {
            const canvas = new OffscreenCanvas(200, 100), draw = canvas.getContext("2d");
            for (let x = 0; x < 200; x++) { draw.fillStyle = `hsl(${x * 7} 90% 50%)`; draw.fillRect(x, 0, 1, 100); }
            const data = new DataTransfer();
            data.items.add(new File([await canvas.convertToBlob()], "<b>dropped.png"));
            document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
        }"""  # noqa: E501
    )
    answered(page)
    assert "200 x 100 pixels" in page.locator("#facts").inner_text()
    assert "<b>dropped.png" in page.locator("#facts").inner_text()


def test_everything_can_be_reached_by_keyboard(server: Served, browse: Pages, photo: Path) -> None:
    page = browse.open(server.address)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    assert page.evaluate("getComputedStyle(document.activeElement.parentElement).outlineStyle") == (
        "solid"
    )
    choose(page, photo)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "opacity"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "mask"


def test_a_phone_offers_its_camera_too(server: Served, browse: Pages) -> None:
    page = browse.open(server.address, PHONE)
    assert not page.locator("#take").is_visible()
    camera = page.locator("#camera")
    assert (camera.get_attribute("capture"), camera.get_attribute("accept")) == (
        "environment", "image/*"
    )  # fmt: skip
    assert page.locator("#file").get_attribute("capture") is None


def test_an_unsuitable_photo_gets_the_reason(server: Served, browse: Pages, tmp_path: Path) -> None:
    save_photo(tmp_path / "plain.png", np.full((90, 120, 3), 9, np.uint8))
    page = browse.open(server.address)
    choose(page, tmp_path / "plain.png")
    assert page.locator("#verdict b").inner_text() == "No answer for this photo"
    why = "It is featureless (all pixels are equal): a score would mean little."
    assert page.locator("#verdict p").inner_text() == why
    assert not page.locator("#slide").is_visible()
    assert not page.locator("#save").is_visible()


def test_a_format_that_the_browser_does_not_show_is_answered(
    server: Served, browse: Pages, photo: Path
) -> None:
    tiff = photo.with_suffix(".tif")
    Image.open(photo).save(tiff)
    page = browse.open(server.address)
    page.set_input_files("#file", tiff)
    page.locator("#answer").wait_for()
    page.locator("#photo").wait_for(state="hidden")
    assert page.locator("#overlay").is_visible()


def test_errors_are_one_line_and_the_next_photo_is_answered(
    student_folder: Path, browse: Pages, tmp_path: Path, photo: Path
) -> None:
    (tmp_path / "text.jpg").write_text("no photo")
    save_grey(
        tmp_path / "large.png", np.random.default_rng(0).integers(0, 255, (1500, 1500), np.uint8)
    )
    with serving(student_folder, tmp_path, "--max-mb", "2") as served:
        page = browse.open(served.address, PHONE)
        error = page.locator("#error")
        page.set_input_files("#file", tmp_path / "text.jpg")
        error.wait_for()
        said = "This photo cannot be checked: not a JPEG, PNG, TIFF, WebP, BMP, HEIC or AVIF image"
        assert error.inner_text() == said
        assert violations(page) == []
        page.set_input_files("#file", tmp_path / "large.png")
        page.wait_for_function("document.querySelector('#error').textContent.includes('MB')")
        choose(page, photo)
        assert not error.is_visible()
        served.process.kill()
        served.process.wait()
        page.set_input_files("#file", photo)
        error.wait_for()
        assert error.inner_text() == "The server does not answer."
        assert not page.locator("#answer").is_visible()
    browse.complaints[:] = [  # the browser's own words for an answer of 400, and for none
        text for text in browse.complaints if "Failed to load resource" not in text
    ]


@pytest.mark.parametrize(
    ("threshold", "words"), [(0.0, "Looks manipulated"), (1.0, "Nothing conspicuous")]
)
def test_a_threshold_makes_a_verdict(
    tmp_path: Path, browse: Pages, photo: Path, threshold: float, words: str
) -> None:
    folder = tmp_path / "student"
    folder.mkdir()
    save(small_student(image_threshold=threshold), folder)
    with serving(folder, tmp_path) as served:
        page = browse.open(served.address)
        choose(page, photo)
        assert page.locator("#verdict b").inner_text() == words
        assert f"threshold of {threshold:.3f}" in page.locator("#verdict").inner_text()
        assert violations(page) == []


def test_the_reference_fits_a_phone(server: Served, browse: Pages) -> None:
    for width in (PHONE, DESKTOP):
        page = browse.open(f"{server.address}/docs", width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert violations(page) == []
