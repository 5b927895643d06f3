"""`iml annotate` as a process in a workspace of its own, and its page in a browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from browsers import Browser, Page
from project import ROOT

from components.annotate.decisions import Decision
from components.core.images import save_photo


class Served:
    """A running `iml annotate`."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process, self.address = process, address
        self.origin, _, self.token = address.partition("/#token=")

    def kill(self) -> None:
        """As a crash: nothing can be saved any more."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> str:
        """Ctrl-C; what it says in the end."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=120)
        assert self.process.returncode == 0, err
        return out


@contextmanager
def annotating(workspace: Path, *arguments: str) -> Iterator[Served]:
    """`iml annotate ARGUMENTS --no-track` in a workspace, ready to be asked."""
    workspace.mkdir(exist_ok=True)
    if not (workspace / "params.yaml").exists():
        shutil.copy(ROOT / "params.yaml", workspace)
    main = "from flows.cli.main import main; main()"
    command = [sys.executable, "-c", main, "annotate", *arguments, "--no-track"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "IML_STATE": str(workspace / ".state")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=workspace, env=environment, **pipes)
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"http://\S+", line):
                break
        else:
            raise AssertionError("".join(said) or "it ended without a word")
        yield Served(process, found.group())
    finally:
        process.kill()
        process.wait()


def decisions(workspace: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """What is on disk, by photo and annotator."""
    files = workspace.glob(".state/annotate/*/*/decisions/*.json")
    rows = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return {(row["photo"], row["annotator"]): row for row in rows}


def scene(path: Path, width: int, height: int, seed: int) -> Path:
    """A photo with an object in it."""
    rng = np.random.default_rng(seed)
    small = rng.integers(60, 200, (8, 8, 3), dtype=np.uint8)
    pixels = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    centre, axes = (width * 2 // 5, height // 2), (width // 8, height // 6)
    cv2.ellipse(pixels, centre, axes, 20, 0, 360, (40, 200, 60), -1)
    if path.suffix == ".png":
        save_photo(path, pixels)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), pixels[..., ::-1])
    return path


class Desk:
    """One person's browser."""

    def __init__(
        self,
        browser: Browser,
        served: Served,
        name: str,
        width: int = 1200,
        page: Page | None = None,
    ) -> None:
        self.page = page or browser.new_context().new_page()
        self.page.set_viewport_size({"width": width, "height": 800})
        self.page.set_default_timeout(30_000)
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.goto(served.address)
        self.page.wait_for_selector("#start:not([hidden])")
        if name:
            self.enter(name)

    def enter(self, name: str) -> None:
        """Say who it is."""
        self.page.locator("#annotator").fill(name)
        self.page.keyboard.press("Enter")
        self.wait()

    def wait(self) -> str:
        """Until a photo is there; its name."""
        self.page.wait_for_selector(
            "#canvas image[href], #done:not([hidden]), #problem:not([hidden])"
        )
        return self.page.locator("#name").inner_text()

    def shows(self, name: str) -> None:
        """Until this photo is there, drawn and all."""
        self.page.locator("#name", has_text=name).wait_for()
        self.page.wait_for_selector("#canvas image[href], #problem:not([hidden])")

    def view(self) -> tuple[float, float, float]:
        """Scale and offset of the photo, in pixels of the window."""
        return tuple(
            self.page.evaluate(
                """() => {
                    const group = document.querySelector("#canvas > g");
                    const matrix = group.getScreenCTM();
                    return [matrix.a, matrix.e, matrix.f];
                }"""
            )
        )

    def draw(self, box: tuple[float, float, float, float]) -> None:
        """Drag a box, given in pixels of the photo, with the mouse."""
        scale, left, top = self.view()
        x0, y0, x1, y1 = box
        mouse = self.page.mouse
        mouse.move(left + x0 * scale, top + y0 * scale)
        mouse.down()
        mouse.move(left + (x0 + x1) / 2 * scale, top + (y0 + y1) / 2 * scale, steps=3)
        mouse.move(left + x1 * scale, top + y1 * scale)
        mouse.up()

    def masks(self, count: int) -> None:
        """Wait until so many masks are shown."""
        script = "count => document.querySelectorAll('#canvas > g > g > image').length === count"
        self.page.wait_for_function(script, arg=count)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def decided(self, key: str) -> str:
        """Press a key that decides, and wait for the next photo; its name."""
        before = self.page.locator("#message").inner_text(), self.page.locator("#name").inner_text()
        self.press(key)
        self.page.wait_for_function(
            "([said, name]) => document.querySelector('#done:not([hidden])')"
            " || (document.getElementById('message').textContent !== said"
            " && document.getElementById('name').textContent !== name"
            " && document.querySelector('#canvas image[href], #problem:not([hidden])'))",
            arg=list(before),
        )
        return self.page.locator("#name").inner_text()


def decision(photo: str, annotator: str, **more: Any) -> Decision:
    """A decision; with boxes it is `manipulated`."""
    boxes = more.get("boxes", [])
    known = {"photo_sha256": "0" * 64, "width": 100, "height": 80, "mark": "manipulated"}
    known |= {"boxes": boxes, "confidences": [0.5] * len(boxes), "seconds": 4.0}
    known |= {"teacher": "sam_lite", "teacher_sha256": "1" * 64, "decided_at": "2026-01-01"}
    return Decision(photo=photo, annotator=annotator, **{**known, **more})
