"""Copy-moves by matching: made copies are found, the student decides which side is the copy."""

import os
import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from components.student import copies, infer
from components.student.copies import joined, moves
from components.student.infer import probabilities
from components.student.model import Student
from tests.small_students import small_config

SOURCE, TARGET, SIDE = (60, 40), (150, 210), 64  # top, left


def scene(height: int = 256, width: int = 320, seed: int = 5) -> np.ndarray:
    """Structure of all sizes that repeats nowhere, uint8 (H, W, 3)."""
    draw = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for step in (4, 8, 16, 32, 64):
        coarse = draw.integers(0, 256, (height // step + 2, width // step + 2, 3), dtype=np.uint8)
        total += Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return (total / 5).astype(np.uint8)


def copied(photo: np.ndarray, size: int = SIDE, turn: float = 0) -> tuple[np.ndarray, np.ndarray]:
    """The photo with a square of it pasted elsewhere, and where, bool (H, W)."""
    (top, left), (row, column) = SOURCE, TARGET
    part = Image.fromarray(photo[top : top + SIDE, left : left + SIDE])
    shape = Image.new("L", part.size, 255).resize((size, size)).rotate(turn)
    part = part.resize((size, size), Image.Resampling.BICUBIC)
    part = part.rotate(turn, Image.Resampling.BICUBIC)
    canvas, mask = Image.fromarray(photo), Image.new("L", photo.shape[1::-1])
    canvas.paste(part, (column, row), shape)
    mask.paste(shape, (column, row))
    return np.asarray(canvas), np.asarray(mask) > 127


def saved(photo: np.ndarray, quality: int) -> np.ndarray:
    """The photo after a JPEG of this quality."""
    file = BytesIO()
    Image.fromarray(photo).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def answer(photo: np.ndarray, *places: tuple[tuple[int, int], float]) -> np.ndarray:
    """An answer with a probability in a square at each place, 0.05 elsewhere."""
    found = np.full(photo.shape[:2], 0.05, np.float32)
    for (top, left), value in places:
        found[top : top + SIDE, left : left + SIDE] = value
    return found


def f1(found: np.ndarray, mask: np.ndarray) -> float:
    return float(2 * (found & mask).sum() / (found.sum() + mask.sum()))


@pytest.mark.parametrize(
    ("size", "turn", "quality", "least"),
    [
        pytest.param(SIDE, 0, None, 0.85, id="shifted"),
        pytest.param(SIDE, 0, 75, 0.85, id="shifted-jpeg"),
        pytest.param(SIDE, 25, 90, 0.6, id="turned-jpeg"),
        pytest.param(80, 0, 90, 0.7, id="scaled-jpeg"),
    ],
)
def test_a_copy_is_found(size: int, turn: float, quality: int | None, least: float) -> None:
    photo, mask = copied(scene(), size, turn)
    if quality is not None:
        photo = saved(photo, quality)
    found = joined(answer(photo, (TARGET, 0.2)), photo)
    assert f1(found > 0.5, mask) > least
    assert found.dtype == np.float32
    assert found.max() <= 1


def test_the_students_answer_decides_which_side_is_the_copy() -> None:
    photo, mask = copied(scene())
    first, second = (joined(answer(photo, (p, 0.2)), photo) > 0.5 for p in (SOURCE, TARGET))
    assert first.any()
    assert not (first & mask).any()
    assert f1(second, mask) > 0.85


def test_where_nothing_repeats_the_answer_is_the_students_own() -> None:
    for photo in (scene(), np.full((80, 90, 3), 7, np.uint8), scene(20, 24), scene(1, 3)):
        own = np.random.default_rng(1).random(photo.shape[:2], np.float32)
        assert np.array_equal(joined(own, photo), own)


def test_a_pattern_over_the_whole_photo_is_no_copy() -> None:
    photo = np.tile(scene(width=160), (1, 2, 1))
    assert moves(photo), "it does repeat"
    own = answer(photo)
    assert np.array_equal(joined(own, photo), own)


def test_a_large_photo_is_matched_at_a_smaller_size() -> None:
    small, mask = copied(scene())
    times = 5
    size = (small.shape[1] * times, small.shape[0] * times)
    photo = np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))
    assert max(photo.shape) > copies.LARGEST
    own = np.kron(answer(small, (TARGET, 0.2)), np.ones((times, times), np.float32))
    found = joined(own, photo) > 0.5
    assert found.shape == photo.shape[:2]
    assert f1(found, np.kron(mask, np.ones((times, times), bool))) > 0.8


def test_a_student_answers_with_copies_only_where_its_config_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photo, _ = copied(scene())
    for wanted in (False, True):
        student = Student(small_config(copies=wanted)).eval()
        monkeypatch.setattr(infer, "joined", lambda found, given: found + given.mean())
        (found,), (own,) = probabilities(student, [photo]), infer.network(student, [photo])
        assert np.array_equal(found, own) != wanted


def test_students_made_before_it_answer_without() -> None:
    values = small_config().model_dump()
    del values["copies"]
    assert type(small_config()).model_validate(values).copies is False


_THREADS = """
import sys, numpy as np
from tests.components.student.test_student_copies import answer, copied, joined, scene, TARGET
from hashlib import sha256
photo = copied(scene(), 80, 10)[0]
print(sha256(joined(answer(photo, (TARGET, 0.2)), photo).tobytes()).hexdigest())
"""


def test_threads_do_not_change_a_byte() -> None:
    def said(threads: int) -> str:
        environ = os.environ | {"OPENBLAS_NUM_THREADS": str(threads), "PYTHONPATH": "."}
        command = [sys.executable, "-c", _THREADS]
        return subprocess.run(
            command, env=environ, check=True, capture_output=True, text=True
        ).stdout

    assert said(1) == said(2)
