from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import imagehash
import numpy as np
import pytest
from data_support import photo_array
from PIL import Image
from scipy.sparse.csgraph import connected_components

from components.data import groups


def distance(first: str | None, second: str | None) -> int:
    assert first is not None
    assert second is not None
    return (int(first, 16) ^ int(second, 16)).bit_count()


@pytest.mark.parametrize("seed", range(20))
def test_phash_is_the_standard_one_on_its_own_grid(seed: int) -> None:
    grey = np.random.default_rng(seed).integers(0, 256, (32, 32), dtype=np.uint8)
    expected = str(imagehash.phash(Image.fromarray(grey)))
    assert groups.phash(np.repeat(grey[..., None], 3, axis=2)) == expected


@pytest.mark.parametrize("size", [(33, 41), (384, 256), (641, 479), (2000, 1500)])
def test_phash_is_near_the_standard_one_at_any_size(size: tuple[int, int]) -> None:
    photo = photo_array(3, *size)
    expected = str(imagehash.phash(Image.fromarray(photo)))
    assert distance(groups.phash(photo), expected) <= 4


def test_phash_knows_a_resaved_or_resized_photo_and_tells_others_apart() -> None:
    photo = photo_array(3, 384, 256)
    small = np.asarray(Image.fromarray(photo).resize((200, 133)))
    assert distance(groups.phash(photo), groups.phash(small)) <= 2
    edited = photo.copy()
    edited[100:130, 100:140] = 255 - edited[100:130, 100:140]
    assert distance(groups.phash(photo), groups.phash(edited)) <= 6
    assert distance(groups.phash(photo), groups.phash(photo_array(4, 384, 256))) > 12


@pytest.mark.parametrize("size", [(1, 500), (500, 1), (32, 1000), (7, 9), (65_500, 3)])
def test_phash_of_odd_shapes(size: tuple[int, int]) -> None:
    assert len(groups.phash(photo_array(1, *size)) or "") == 16


def plain_pictures() -> dict[str, np.ndarray]:
    """Pictures whose frequencies are zero or near the median, where rounding decides a float."""
    down, right = np.mgrid[:384, :256]
    grey = {
        "black": np.zeros((384, 256)),
        "white": np.full((384, 256), 255),
        "small": np.full((3, 5), 77),
        "across": right % 256,
        "down": down * 255 // 383,
        "two": np.where(right < 100, 40, 200),
        "halves": np.where(down < 192, 0, 255),
        "chess": (down // 48 + right // 32) % 2 * 255,
        "disc": np.where(np.hypot(down - 191.5, right - 127.5) < 90, 220, 20),
        "noise": np.random.default_rng(1).integers(0, 256, (384, 256)),
        "line": np.where(np.arange(500) < 77, 9, 99)[None],
    }
    plain = {name: np.repeat(g.astype(np.uint8)[..., None], 3, axis=2) for name, g in grey.items()}
    colours = {f"photo {n}": photo_array(n, 200 + 31 * n, 300 - 17 * n) for n in range(8)}
    return plain | colours


def plain_hashes() -> str:
    return json.dumps({name: groups.phash(picture) for name, picture in plain_pictures().items()})


@pytest.mark.parametrize(
    "settings",
    [
        {"OPENBLAS_CORETYPE": "Prescott"},
        {"OPENBLAS_CORETYPE": "Haswell"},
        {"OPENCV_IPP": "disabled", "OPENCV_CPU_DISABLE": "SSE4.2,AVX,AVX2,AVX512_SKX,FP16"},
        {"NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3"},
    ],
)
def test_phash_is_the_same_on_every_processor(settings: dict[str, str]) -> None:
    code = "import test_data_groups as here; print(here.plain_hashes())"
    places = [str(Path(__file__).parent), *sys.path]
    environment = os.environ | settings | {"PYTHONPATH": os.pathsep.join(places)}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == plain_hashes()


def test_what_phash_takes_from_opencv_is_integer_arithmetic() -> None:
    """Every colour's grey, and the average of every sum of four greys."""
    red, green = np.mgrid[:256, :256].astype(np.int64)
    for blue in range(256):
        colours = np.dstack([red, green, np.full_like(red, blue)])
        expected = (colours @ [9798, 19235, 3735] + (1 << 14)) >> 15
        grey = cv2.cvtColor(colours.astype(np.uint8), cv2.COLOR_RGB2GRAY)
        np.testing.assert_array_equal(grey, expected)
    four = np.random.default_rng(0).integers(0, 256, (2, 2, 200, 300))
    for level in range(256):
        four[:, :, 0, level] = level
        four[0, 0, 1, level], four[1, :, 1, level] = level, 255
    picture = four.transpose(2, 0, 3, 1).reshape(400, 600).astype(np.uint8)
    half = cv2.resize(picture, (300, 200), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(half, (four.sum(axis=(0, 1)) + 2) >> 2)


def test_rounded_cosines_depend_on_no_last_bit() -> None:
    frequency, place = np.mgrid[:8, :32]
    exact = np.cos(np.pi * frequency * (2 * place + 1) / 64) * (1 << 20)
    assert np.abs(np.abs(exact - np.floor(exact)) - 0.5).min() > 1e-3


@pytest.mark.parametrize("size", [(33, 41), (64, 96), (127, 300)])
def test_the_last_averages_are_exact(size: tuple[int, int]) -> None:
    grey = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    parts = np.kron(grey.astype(np.int64), np.ones((32, 32), np.int64))
    sums = parts.reshape(32, size[0], 32, size[1]).sum(axis=(1, 3))
    expected = np.floor(sums / (size[0] * size[1]) + 0.5)
    np.testing.assert_array_equal(groups._small(grey), expected)


def test_flat_photos_have_no_hash_and_little_structure_is_enough_for_one() -> None:
    hashes = {name: groups.phash(picture) for name, picture in plain_pictures().items()}
    assert hashes["black"] is hashes["white"] is hashes["small"] is None
    assert groups.phash(photo_array(1, 1, 1)) is None
    # Grain of one grey level is no structure; a slope of a few is.
    grain = np.random.default_rng(0).integers(127, 129, (400, 600, 1), dtype=np.uint8)
    assert groups.phash(np.repeat(grain, 3, axis=2)) is None
    slope = np.linspace(130, 122, 400)[:, None, None] + np.zeros((400, 600, 3))
    assert groups.phash(slope.astype(np.uint8)) is not None
    assert hashes["chess"] is None  # too fine for the lowest frequencies
    for name in ("two", "disc", "noise"):
        assert hashes[name] is not None, name


def test_flat_photos_are_near_duplicates_of_nothing() -> None:
    flat = [None, "", float("nan"), "0" * 16, "8" + "0" * 15]
    hashes = [*flat, "0" * 15 + "f", *flat, "0" * 15 + "e", "f" * 16]
    pairs = groups.near_duplicates(hashes, 4)
    assert {tuple(sorted(pair)) for pair in pairs.tolist()} == {(5, 11)}
    assert groups.near_duplicates([], 4).shape == (0, 2)
    assert groups.near_duplicates(flat, 4).shape == (0, 2)


@pytest.mark.parametrize("bits", [0, 1, 2, 4, 7, 8, 9, 12, 32])
def test_near_pairs_link_what_comparing_all_pairs_links(bits: int) -> None:
    stream = np.random.default_rng(bits)
    hashes = stream.integers(0, 2**63, 200, dtype=np.uint64)
    # Families of near-duplicates at all distances around the limit, in any bit positions.
    for row in range(100, 200):
        flips = stream.choice(64, int(stream.integers(0, bits + 3)), replace=False)
        flip = sum(1 << int(bit) for bit in flips)
        hashes[row] = np.uint64(int(hashes[row - 100]) ^ flip)
    close = np.bitwise_count(hashes[:, None] ^ hashes[None]) <= bits
    count, expected = connected_components(close)
    pairs = groups.near_pairs(hashes, bits)
    assert all(close[a, b] for a, b in pairs)
    names = groups.link([[f"{row:03}"] for row in range(200)], pairs)
    assert len(set(names)) == count
    assert len(set(zip(names, expected.tolist(), strict=True))) == count


def test_near_pairs_in_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = np.random.default_rng(0).integers(0, 2**7, 300, dtype=np.uint64)
    whole = {tuple(sorted(pair)) for pair in groups.near_pairs(hashes, 2).tolist()}
    monkeypatch.setattr(groups, "_BLOCK", 10)
    assert {tuple(sorted(pair)) for pair in groups.near_pairs(hashes, 2).tolist()} == whole
    assert len(whole) > 300


def test_near_pairs_of_nothing_and_of_many_equal_ones() -> None:
    assert groups.near_pairs(np.zeros(0, np.uint64), 4).shape == (0, 2)
    assert len(groups.near_pairs(np.zeros(50_000, np.uint64), 4)) == 49_999


def test_link_joins_through_shared_keys_and_pairs() -> None:
    keys = [["b", "a"], ["c"], ["c", "b"], ["d"], ["e"], ["f"]]
    assert groups.link(keys) == ["a", "a", "a", "d", "e", "f"]
    assert groups.link(keys, np.array([[3, 4]])) == ["a", "a", "a", "d", "d", "f"]
