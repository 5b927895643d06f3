from __future__ import annotations

import imagehash
import numpy as np
import pytest
from data_support import photo_array
from PIL import Image
from scipy.sparse.csgraph import connected_components

from components.data import groups


def distance(first: str, second: str) -> int:
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


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (32, 1000)])
def test_phash_of_odd_shapes(size: tuple[int, int]) -> None:
    assert len(groups.phash(photo_array(1, *size))) == 16


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
