"""The mask on the page is the pseudo-mask that training would use."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import cv2
import numpy as np
import pytest
import segment_anything
import torch
from annotate_support import scene
from pseudo_label_support import tiny_sam

from components.annotate import masks
from components.annotate.decisions import Decisions
from components.annotate.desk import Desk
from components.annotate.photos import Photo
from components.annotate.session import Session
from components.core.images import open_photo
from components.core.params import PseudoLabel
from components.evaluate.pictures import thumbnail
from components.pseudo_label import registry
from components.pseudo_label.quality import pseudo_mask

SETTINGS = {"checkpoint": "", "margin": 0.0, "min_confidence": 0.0, "threads": 1}
BOX = (20.0, 12.0, 60.0, 50.0)
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
    part = thumbnail(wanted[y0:y1, x0:x1], 512)  # as in all overlays
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


def test_the_page_gets_all_pixels_upright(assistant: masks.Assistant, photo: Path) -> None:
    ready = assistant.photo(0)
    seen = cv2.imdecode(np.frombuffer(ready.jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert seen.shape == (480, 640, 3)
    assert np.abs(seen.astype(int) - ready.pixels).mean() < 2


@pytest.fixture
def encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[masks.Assistant]:
    """An assistant whose teacher is a small Segment Anything, with four photos."""
    checkpoint = tmp_path / "tiny.pth"
    torch.save(tiny_sam().state_dict(), checkpoint)
    # The model's size is all that differs from the published one.
    monkeypatch.setitem(segment_anything.sam_model_registry, "vit_b", tiny_sam)
    photos = [
        Photo(f"{number}.png", scene(tmp_path / f"{number}.png", 96, 64, number).read_bytes)
        for number in range(4)
    ]
    made = masks.Assistant(
        photos, settings("vit_b").model_copy(update={"checkpoint": str(checkpoint)}), 64
    )
    yield made
    made.close()


def watched(assistant: masks.Assistant) -> list[str]:
    """What the teacher does from now on: `photo` encoded, `box` or `whole` photo answered."""
    seen: list[str] = []

    def prompted(_: object, __: object, given: dict[str, torch.Tensor]) -> None:
        seen.append("whole" if given["boxes"].min() == 0 else "box")

    model = assistant.teacher._model
    model.image_encoder.register_forward_pre_hook(lambda *_: seen.append("photo"))
    model.prompt_encoder.register_forward_pre_hook(prompted, with_kwargs=True)
    return seen


def all_done(assistant: masks.Assistant) -> None:
    """Wait until reader and teacher have nothing left to do."""
    for pool in (assistant._reader, assistant._thinker):
        pool.submit(lambda: None).result()


def test_photos_ahead_in_the_queue_are_encoded_beforehand(
    encoding: masks.Assistant, tmp_path: Path
) -> None:
    seen, kept = watched(encoding), Decisions(tmp_path / "decisions")
    desk = Desk([photo.name for photo in encoding._photos], kept)
    session = Session(encoding._photos, kept, desk, encoding)
    session.open("Ada", None)
    all_done(encoding)
    assert seen.count("photo") == 3  # the one that is shown, and two ahead
    seen.clear()
    for number in range(3):
        session.mask("Ada", number, BOX)
    assert seen == ["box"] * 3  # nothing is left to encode when a box is drawn
    session.decide("Ada", 0, "authentic", [], 1.0)
    session.open("Ada", 1)
    all_done(encoding)
    assert seen.count("photo") == 1  # the fourth


def test_a_person_waits_for_no_other_photo(encoding: masks.Assistant) -> None:
    seen, free = watched(encoding), Event()
    encoding._thinker.submit(free.wait)
    encoding.ahead(range(4))
    encoding.photo(3)  # all are read, and wait to be encoded
    with ThreadPoolExecutor(1) as person:
        asked = person.submit(encoding.mask, 0, BOX)
        while not encoding._awaited:
            pass
        free.set()
        asked.result()
    all_done(encoding)
    while seen.count("photo") < 4:
        all_done(encoding)
    assert seen[:3] == ["photo", "box", "whole"]
