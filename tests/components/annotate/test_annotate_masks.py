"""The mask on the page is the pseudo-mask that training would use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny_transformers
from annotate_support import scene

from components.annotate import masks
from components.annotate.photos import Photo
from components.core.images import open_photo
from components.core.params import PseudoLabel
from components.pseudo_label import registry
from components.pseudo_label.quality import pseudo_mask

SETTINGS = {"checkpoint": "", "margin": 0.0, "min_confidence": 0.0, "threads": 1}
BOXES = [
    (100.0, 60.0, 300.0, 260.0),
    (0.0, 0.0, 640.0, 480.0),
    (601.5, 431.0, 640.0, 480.0),
    (33.0, 1.0, 41.0, 480.0),
    (199.0, 99.0, 202.0, 101.0),
]


def settings(teacher: str) -> PseudoLabel:
    return PseudoLabel(teacher=teacher, **SETTINGS)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scene(tmp_path_factory.mktemp("masks") / "a.png", 640, 480, 5)


@pytest.fixture(scope="module")
def assistant(photo: Path) -> Iterator[masks.Assistant]:
    made = masks.Assistant([Photo("a.png", photo.read_bytes)], settings("sam_lite"), 64)
    yield made
    made.close()


def apart(shown: masks.Shown, wanted: np.ndarray) -> np.ndarray:
    """How far the shown mask is from a pseudo-mask, in 255ths, outline left out."""
    picture = cv2.imdecode(np.frombuffer(shown.png, np.uint8), cv2.IMREAD_UNCHANGED)[..., 3]
    x0, y0, x1, y1 = map(int, shown.place)
    assert not np.delete(wanted, np.s_[y0:y1], 0).any()
    assert not np.delete(wanted, np.s_[x0:x1], 1).any()
    size = (picture.shape[1], picture.shape[0])
    part = cv2.resize(wanted[y0:y1, x0:x1], size, interpolation=cv2.INTER_AREA)
    return np.abs(picture / masks._OPACITY - part)[picture < 255]


@pytest.mark.parametrize("box", BOXES)
def test_it_is_the_pseudo_mask_of_the_stage(
    assistant: masks.Assistant, photo: Path, box: tuple[float, ...]
) -> None:
    pixels = open_photo(photo)
    wanted = pseudo_mask(registry.build(settings("sam_lite")), pixels, np.array([box]))
    shown = assistant.mask(0, box)
    assert shown.confidence == pytest.approx(wanted.confidence, abs=1e-4)
    assert (shown.fallback is None) == (wanted.fallback is None)
    assert apart(shown, wanted.mask).max() <= 2


def test_another_teacher_sees_the_whole_photo(photo: Path) -> None:
    made = masks.Assistant([Photo("a.png", photo.read_bytes)], settings("grabcut"), 64)
    try:
        shown = made.mask(0, BOXES[0])
    finally:
        made.close()
    wanted = pseudo_mask(
        registry.build(settings("grabcut")), open_photo(photo), np.array(BOXES[:1])
    )
    assert shown.confidence == wanted.confidence
    assert apart(shown, wanted.mask).max() <= 2


def test_a_teacher_that_encodes_does_so_ahead_and_then_answers_at_once(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = f"hf:{tiny_transformers.save(tmp_path, 'sam2')}"
    made = masks.Assistant([Photo("a.png", photo.read_bytes)], settings(teacher), 64)
    try:
        pixels = made.photo(0).pixels
        made._thinker.submit(int).result()  # what was begun before is done
        monkeypatch.setattr(made.teacher, "_encode", None)  # any attempt would fail
        shown = [made.mask(0, box) for box in BOXES[:2]]
    finally:
        made.close()
    again = registry.build(settings(teacher))
    for box, one in zip(BOXES, shown, strict=False):
        wanted = pseudo_mask(again, pixels, np.array([box]))
        assert one.confidence == pytest.approx(wanted.confidence, abs=1e-4)
        assert apart(one, wanted.mask).max() <= 2


def test_the_page_gets_all_pixels_upright(assistant: masks.Assistant, photo: Path) -> None:
    ready = assistant.photo(0)
    seen = cv2.imdecode(np.frombuffer(ready.jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert seen.shape == (480, 640, 3)
    assert np.abs(seen.astype(int) - ready.pixels).mean() < 2
