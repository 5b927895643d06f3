"""A real browser for tests of pages: Debian's Chromium, headless, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

__all__ = ["Browser", "Page", "Pages", "chromium"]

_FLAGS = [
    "--no-sandbox",  # containers run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser, with a profile of its own."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.fail("Chromium is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Pages:
    """Opens pages, and keeps what went wrong in them."""

    def __init__(self, browser: Browser) -> None:
        self._context = browser.new_context(accept_downloads=True)
        self.complaints: list[str] = []

    def open(self, path: Path | str, width: int = 1200) -> Page:
        """The page of a file or at an address, of this width in pixels, loaded."""
        page = self._context.new_page()
        page.set_viewport_size({"width": width, "height": 900})
        page.set_default_timeout(20_000)
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(path if isinstance(path, str) else path.absolute().as_uri())
        return page

    def fits(self, path: Path) -> bool:
        """Whether nothing of a page lies beyond a narrow or a wide window's edge."""
        for width in (400, 1200):
            page = self.open(path, width)
            if page.evaluate("document.documentElement.scrollWidth") > width:
                return False
            page.close()
        return True

    def close(self) -> None:
        """Close every page."""
        self._context.close()
