from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from components.student.infer import BATCH, enlarge, probabilities, shrink

ROOT = Path(__file__).parents[3]


def photos():
    draw = np.random.default_rng(0)
    sizes = [(48, 80), (1, 200), (130, 1), (64, 64), (700, 500)]
    return [draw.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


@pytest.mark.parametrize("view", ["resize", "tiles"])
def test_native_size_in_range(make, view):
    given = [*photos(), np.zeros((40, 30, 3), np.uint8), np.full((20, 20, 3), 255, np.uint8)]
    maps = probabilities(make(view=view), given)
    assert [m.shape for m in maps] == [p.shape[:2] for p in given]
    for found in maps:
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
        assert found.min() >= 0
        assert found.max() <= 1


def test_follows_the_stated_rule(make):
    student, photo = make(), photos()[0]
    small = np.asarray(Image.fromarray(photo).resize((64, 64), Image.Resampling.BILINEAR))
    with torch.no_grad():
        logits = student(torch.from_numpy(small.copy()).permute(2, 0, 1)[None] / 255)
    expected = Image.fromarray(logits.sigmoid()[0, 0].numpy()).resize((80, 48), Image.BILINEAR)
    np.testing.assert_allclose(probabilities(student, [photo])[0], expected, atol=2e-3)


def test_a_batch_is_its_photos_one_by_one(make):
    student, given = make(), photos() * 2
    assert len(given) > BATCH
    together = probabilities(student, given)
    for photo, found in zip(given, together, strict=True):
        np.testing.assert_allclose(probabilities(student, [photo])[0], found, atol=1e-5)


def test_nothing_in_nothing_out(make):
    assert probabilities(make(), []) == []


@pytest.mark.parametrize("shape", [(31, 77, 3), (31, 77)])
def test_shrink_is_antialiased_like_pillow(shape):
    image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR))
    found = shrink(image, 32)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_enlarge_keeps_a_plain_map_plain():
    found = enlarge(torch.full((16, 16), 0.25), 37, 1)
    np.testing.assert_allclose(found, np.full((37, 1), 0.25, np.float32), rtol=1e-6)


def test_small_photo_needs_no_tiles(make):
    photo = photos()[0][:, :60]
    whole, tiled = (probabilities(make(view=view), [photo])[0] for view in ("resize", "tiles"))
    assert np.array_equal(whole, tiled)


def test_tile_answers_stand_where_their_pixels_are(make):
    """In the middle of a square that overlaps no other, the map is that square's own answer."""
    student = make(view="tiles", overlap=0.0)
    photo = photos()[4][:128, :192]
    found = probabilities(student, [photo])[0]
    squares = [photo[y : y + 64, x : x + 64] for y in (0, 64) for x in (0, 64, 128)]
    expected = [probabilities(student, [square])[0] for square in squares]
    rows = [np.concatenate(expected[start : start + 3], axis=1) for start in (0, 3)]
    np.testing.assert_allclose(found, np.concatenate(rows), atol=1e-5)


# Growth of the peak resident size while one photo of 20 megapixels is answered, in maps of it, by
# a network that costs nothing; one that `keeps` hoards its answers. tracemalloc sees nothing of
# torch, and ru_maxrss would count the process that started this one.
MEASURE = """
import sys
from types import SimpleNamespace
import numpy as np
import torch
from components.student.infer import probabilities

class Network:
    mean = torch.zeros(1)
    kept = []

    def __init__(self, view, keeps):
        self.config = SimpleNamespace(size=256, view=view, overlap=0.5, copies=False)
        self.keeps = keeps

    def __call__(self, squares):
        answer = squares.mean(1, keepdim=True)
        if self.keeps:
            self.kept.append(answer)
        return answer

def peak():
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024

view, keeps = sys.argv[1:]
torch.set_num_threads(1)
draw = np.random.default_rng(0)
probabilities(Network(view, ""), [draw.integers(0, 256, (600, 600, 3), dtype=np.uint8)])
photo = draw.integers(0, 256, (4000, 5000, 3), dtype=np.uint8)
before = peak()
(found,) = probabilities(Network(view, keeps), [photo])
grown = peak() - before
assert found.shape == (4000, 5000) and found.dtype == np.float32 and np.isfinite(found).all()
print(grown / found.nbytes)
"""


def maps_held(view, keeps=""):
    command = [sys.executable, "-c", MEASURE, view, keeps]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.parametrize("view", ["resize", "tiles"])
def test_twenty_megapixels_hold_one_map_and_one_batch(view):
    assert 0.9 < maps_held(view) < 1.5


def test_answers_that_pile_up_would_be_seen():
    assert maps_held("tiles", "keeps") > 3


def test_a_black_photo_is_answered(make):
    for view in ("resize", "tiles"):
        found = probabilities(make(view=view), [np.zeros((100, 150, 3), np.uint8)])[0]
        assert np.isfinite(found).all()
        assert found.shape == (100, 150)
