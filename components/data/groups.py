"""Source groups: photos that must stay in one split.

Photos belong together when the data set says so or when their perceptual hashes nearly agree, as
those of a manipulated photo and its original usually do.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

_SIDE, _LOW, _UNIT = 32, 8, 1 << 20
_FLAT = ("", "0" * 16, "8" + "0" * 15)  # bits of a photo without structure
# Beyond this many bits the bands get so short that comparing every pair is no slower.
_MOST_BANDS = 9
_BLOCK = 1 << 22


@functools.lru_cache(maxsize=1)
def _cosines() -> np.ndarray:
    """The 8 lowest rows of the 32-point type-II DCT, int64 in units of 2^-20.

    None is near enough to a half for another library's last bit to round it elsewhere.
    """
    frequency, place = np.mgrid[:_LOW, :_SIDE]
    cosines = np.cos(np.pi * frequency * (2 * place + 1) / (2 * _SIDE))
    return np.rint(cosines * _UNIT).astype(np.int64)


@functools.lru_cache(maxsize=1)
def _rounding() -> np.ndarray:
    """What each frequency can have of a plain picture: every cell rounded by up to a half."""
    most = np.abs(_cosines()).sum(axis=1)
    return most[:, None] * most // 2


def phash(photo: np.ndarray) -> str | None:
    """The 64-bit DCT perceptual hash (pHash) of an RGB photo, uint8 (H, W, 3), as 16 hex digits.

    Grey, 32x32 (by area averaging), DCT, the 8x8 lowest frequencies compared with their median;
    bits in row order. On a 32x32 grey photo it equals `imagehash.phash`; that library takes 12
    times as long on 12 megapixels, and its bits differ from those that registered versions carry.

    All arithmetic is on integers, so that every processor and library gives the same bits. A flat
    photo has no hash: one whose frequencies rounding alone could make, or whose bits are a flat
    one's.
    """
    # For 32 rows every second one of a large photo is plenty, and half the work.
    rows = photo[::2] if photo.shape[0] >= 8 * _SIDE else photo
    # OpenCV's grey (fixed-point) and its averages of exact halves are integers; its others are not.
    grey = cv2.cvtColor(rows, cv2.COLOR_RGB2GRAY)
    while min(grey.shape) >= 4 * _SIDE:
        height, width = grey.shape[0] // 2, grey.shape[1] // 2
        even = grey[: 2 * height, : 2 * width]
        grey = cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA)
    low = _cosines() @ _small(grey) @ _cosines().T
    if (np.abs(low) <= _rounding()).ravel()[1:].all():
        return None
    ordered = np.sort(low, axis=None)
    middle = ordered[low.size // 2 - 1] + ordered[low.size // 2]
    bits = np.packbits(2 * low > middle).tobytes().hex()
    return None if bits in _FLAT else bits


def _small(grey: np.ndarray) -> np.ndarray:
    """A grey picture as 32x32 averages of area, rounded, int64; at most 8 megapixels."""
    area = grey.shape[0] * grey.shape[1]
    edges = _edges(_edges(cv2.integral(grey)).T).T  # sums of integers, int32
    cells = np.diff(np.diff(edges, axis=0), axis=1)
    return (2 * cells + area) // (2 * area)


def _edges(sums: np.ndarray) -> np.ndarray:
    """Running sums (H+1, W) at the edges of 32 equal parts, in units of 1/32: int64 (33, W)."""
    height = len(sums) - 1
    whole, part = np.divmod(np.arange(_SIDE + 1) * height, _SIDE)
    part = part[:, None]
    return sums[whole] * (_SIDE - part) + sums[np.minimum(whole + 1, height)] * part


def near_duplicates(hashes: Sequence[str | None], bits: int) -> np.ndarray:
    """All pairs of rows whose hashes (see `phash`) differ in at most `bits` bits: int64 (P, 2).

    Rows without a hash are in none; nor are those with a hash of a flat photo, as earlier code
    made them.
    """
    rows = np.array([n for n, value in enumerate(hashes) if _is_hash(value)], np.int64)
    values = np.array([int(str(hashes[row]), 16) for row in rows], np.uint64)
    return rows[near_pairs(values, bits)]


def _is_hash(value: str | None) -> bool:
    """Whether it is one, and tells anything; a table may have NaN for null."""
    return isinstance(value, str) and value not in _FLAT


def near_pairs(hashes: np.ndarray, bits: int) -> np.ndarray:
    """All pairs of hashes, uint64 (N,), that differ in at most `bits` bits; equal ones as a chain.

    Two hashes within k bits agree exactly in two of k + 2 bands, so only hashes that share two
    bands' values are compared (pigeonhole), not all pairs. Returns their indices, int64 (P, 2).
    """
    values, inverse = np.unique(hashes, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    same = inverse[order][1:] == inverse[order][:-1]
    first = order[np.searchsorted(inverse[order], np.arange(len(values)))]
    found = [np.stack([order[:-1][same], order[1:][same]], axis=1)]
    if bits > 0:
        edges = np.linspace(0, 64, bits + 3).astype(int).tolist()
        bands = [(1 << stop) - (1 << start) for start, stop in itertools.pairwise(edges)]
        masks = [one | two for one, two in itertools.combinations(bands, 2)]
        for mask in masks if bits < _MOST_BANDS else [0]:
            found.append(first[_pairs_sharing(values & np.uint64(mask), values, bits)])
    return np.concatenate(found)


def _pairs_sharing(keys: np.ndarray, values: np.ndarray, bits: int) -> np.ndarray:
    """Pairs of equal key whose values differ in at most `bits` bits: int64 (P, 2)."""
    order = np.argsort(keys, kind="stable")
    _, starts, counts = np.unique(keys[order], return_index=True, return_counts=True)
    # Each element is compared with those after it in its bucket, in blocks of bounded memory.
    after = np.repeat(starts + counts, counts) - np.arange(len(keys)) - 1
    found = [np.zeros((0, 2), np.int64)]
    ends = np.cumsum(after)
    begin = 0
    while begin < len(keys):
        done = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, done + _BLOCK, side="right")))
        left = np.repeat(np.arange(begin, end), after[begin:end])
        step = np.arange(len(left)) - np.repeat(
            ends[begin:end] - after[begin:end] - done, after[begin:end]
        )
        right = left + 1 + step
        left, right = order[left], order[right]
        close = np.bitwise_count(values[left] ^ values[right]) <= bits
        found.append(np.stack([left[close], right[close]], axis=1))
        begin = end
    return np.concatenate(found)


def link(keys: Sequence[Sequence[str]], pairs: np.ndarray | None = None) -> list[str]:
    """One group name per row, the smallest key of its group; shared keys and pairs make groups.

    Args:
        keys: per row at least one key: source ids, or the row's own id where it has none.
        pairs: int64 (P, 2), other rows that belong together.
    """
    names = sorted({key for row in keys for key in row})
    place = {name: index + len(keys) for index, name in enumerate(names)}
    edges = [(row, place[key]) for row, own in enumerate(keys) for key in own]
    joined = np.array(edges, np.int64).reshape(-1, 2)
    if pairs is not None:
        joined = np.concatenate([joined, pairs])
    size = len(keys) + len(names)
    ones = np.ones(len(joined), np.int8)
    _, component = connected_components(
        coo_array((ones, (joined[:, 0], joined[:, 1])), shape=(size, size)), directed=False
    )
    smallest: dict[int, str] = {}
    for name in names:  # sorted, so the first one is the smallest
        smallest.setdefault(int(component[place[name]]), name)
    return [smallest[int(component[row])] for row in range(len(keys))]
