"""Copy-moves: regions that a photo shows twice, found by matching the photo with itself.

A small network at a small size rarely sees that one place repeats another, which is all that gives
a copy-move away. Matching does, at the photo's own size and without any training. The steps are
those of keypoint-based detection (Amerini et al. 2011, Christlein et al. 2012):

1. Keypoints: in each cell of a grid the corner with the highest harmonic mean of the structure
   tensor's eigenvalues; oriented patches around them as descriptors (Brown et al. 2005), at three
   sizes of the photo.
2. Pairs: nearest neighbours at a distance whose second-nearest is clearly farther (Lowe 2004).
3. Moves: similarities (rotation, scale, shift) that several pairs agree on.
4. Regions: where the moved photo correlates with the photo itself.

Matching shows two places and not which of them is the copy: the student's own answer decides, by
the side of the move to which it gives the higher mean logit.

Only numpy and Pillow, as serving has no more. Descriptors are whole numbers, so that the products
that choose the pairs are exact in float32, in any order of summation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

LARGEST = 640  # pixels of the longer side at which photos are matched; larger ones are shrunk to it
CELL, POINTS = 6, 2800  # pixels of a cell of the grid; about so many cells at most, at each size
LEVELS = (1.0, 0.84, 0.7)  # of the photo's size; copies 0.7 to 1.4 times as large are found
PATCH, SPACING = 8, 1.5  # samples of a descriptor's side, and pixels between them
CORNER, CONTRAST = 0.05, 2.0  # least response of a keypoint, least deviation of its patch, grey
STEPS = 300.0  # of a descriptor of unit length; 64 products stay below 2 ** 24
APART = 24  # pixels: nearer places are the same place
RATIO = 0.75  # of the distances to the nearest and the second-nearest descriptor
SAME = 8  # pixels around the nearest in which the second-nearest does not count
TOLERANCE, AGREE, MOVES = 2.5, 4, 4  # pixels between a pair and its move; pairs to a move; moves
SCALES = (0.5, 2.0)  # of a move
WINDOW, NOISE = 9, 4.0  # pixels of a correlation's window; variance of noise per channel
ALIKE, ENOUGH = 0.6, 0.8  # correlation of a pixel; its mean over a region that counts
REACH, NEAR = 61, 3  # pixels of the window around a region's pixel, and keypoints in it
WHOLE = 0.4  # of the photo: a move that repeats more is a pattern

_EDGE = 8  # pixels along the border without keypoints
_ROWS = 512  # keypoints that are compared with all others at a time; bounds memory


class _Points(NamedTuple):
    """Keypoints of a photo; places are complex, x + iy."""

    places: np.ndarray  # complex128 (N,), pixels of the photo
    frames: np.ndarray  # complex128 (N,), the gradient's direction times a pixel of the level
    patches: np.ndarray  # float32 (N, PATCH ** 2), whole numbers


class Move(NamedTuple):
    """A similarity z -> turn * z + shift, and the places that it maps onto each other."""

    turn: complex
    shift: complex
    sources: np.ndarray  # complex128 (N,)
    targets: np.ndarray  # complex128 (N,)

    def back(self) -> Move:
        """Its inverse."""
        return Move(1 / self.turn, -self.shift / self.turn, self.targets, self.sources)


def joined(probability: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """A student's answer with the photo's copy-moves in it.

    Args:
        probability: float32 (H, W) in [0, 1], the network's answer.
        photo: uint8 (H, W, 3) RGB.

    Returns:
        float32 (H, W) in [0, 1]: the larger of the answer and, in copied regions, 0.5 to 1, which
        rises with their correlation.
    """
    height, width = photo.shape[:2]
    scale = min(1.0, LARGEST / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small, answer = photo, probability
    if scale < 1:
        small = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BILINEAR))
    every = moves(small)
    if not every:
        return probability
    if scale < 1:
        shrunk = Image.fromarray(probability).resize(size, Image.Resampling.BILINEAR)
        answer = np.asarray(shrunk)
    found = _copied(small, answer, every)
    if found is None:
        return probability
    if scale < 1:
        large = Image.fromarray(found).resize((width, height), Image.Resampling.BILINEAR)
        found = np.asarray(large)
    return np.maximum(probability, found)


def moves(photo: np.ndarray) -> list[Move]:
    """What occurs twice in a photo, uint8 (H, W, 3): at most `MOVES`, best supported first."""
    points = _keypoints(photo)
    if len(points.places) < AGREE:
        return []
    return _agreed(points, *_pairs(points))


def _copied(photo: np.ndarray, answer: np.ndarray, every: list[Move]) -> np.ndarray | None:
    """float32 (H, W): 0, or 0.5 to 1 where the photo was copied to; None where nowhere."""
    found: np.ndarray | None = None
    clipped = np.clip(answer, 1e-6, 1 - 1e-6)
    logits = np.log(clipped / (1 - clipped))
    windows = _windows(photo)
    for move in every:
        sides = [_alike(windows, move), _alike(windows, move.back())]
        if _solid(np.maximum(*sides) > ALIKE).mean() > WHOLE:
            continue
        places = (move.sources, move.targets)
        copies = [_region(side, own) for side, own in zip(sides, places, strict=True)]
        # The network knows little of copies, but it sees the same content on both sides: what it
        # finds more suspicious on one of them is the edit.
        likely = [logits[copy > 0].mean() if copy.any() else -np.inf for copy in copies]
        copy = copies[int(np.argmax(likely))]
        if copy.any():
            found = copy if found is None else np.maximum(found, copy)
    return found


def _keypoints(photo: np.ndarray) -> _Points:
    """Keypoints of all levels."""
    grey = Image.fromarray(photo).convert("L")
    levels = []
    for level in LEVELS:
        size = (round(grey.width * level), round(grey.height * level))
        # A descriptor reaches 8 pixels from its centre, more when it is turned.
        if min(size) > 2 * _EDGE + 2 * CELL:
            resized = grey if level == 1 else grey.resize(size, Image.Resampling.BILINEAR)
            levels.append(_of_level(np.asarray(resized, np.float32), level))
    if not levels:
        return _Points(np.zeros(0, complex), np.zeros(0, complex), np.zeros((0, PATCH**2)))
    return _Points(*(np.concatenate(parts) for parts in zip(*levels, strict=True)))


def _of_level(grey: np.ndarray, level: float) -> _Points:
    """Keypoints of float32 (H, W), 0 to 255, the photo at `level` of its size."""
    height, width = grey.shape
    smooth = _mean(grey, 3)
    down, right = np.gradient(smooth)
    xx, yy, xy = _mean(np.stack([right**2, down**2, right * down]), 5)
    corner = (xx * yy - xy**2) / (xx + yy + 1e-3)
    inner = np.zeros_like(corner)
    inside = (slice(_EDGE, -_EDGE), slice(_EDGE, -_EDGE))
    inner[inside] = corner[inside]
    cell = max(CELL, int(np.ceil(np.sqrt(height * width / POINTS))))
    rows, columns = height // cell, width // cell
    cells = inner[: rows * cell, : columns * cell].reshape(rows, cell, columns, cell)
    cells = cells.transpose(0, 2, 1, 3).reshape(rows * columns, cell * cell)
    place = cells.argmax(axis=1)
    row, column = np.divmod(np.arange(rows * columns), columns)
    y, x = row * cell + place // cell, column * cell + place % cell
    # The highest of a cell can lie on the flank of a corner in the next cell.
    around = [inner[(y + i).clip(0, height - 1), (x + j).clip(0, width - 1)]
              for i in (-1, 0, 1) for j in (-1, 0, 1)]  # fmt: skip
    best = (inner[y, x] > CORNER) & (inner[y, x] >= np.max(around, axis=0))
    y, x = y[best], x[best]
    slope = _mean(_mean(np.stack([right, down]), 9), 9)[:, y, x].astype(np.float64)
    length = np.sqrt((slope**2).sum(axis=0))
    frame = np.where(length > 0, slope[0] + 1j * slope[1], 1) / np.where(length > 0, length, 1)
    step = (np.arange(PATCH) - (PATCH - 1) / 2) * SPACING
    grid = (step[None, :] + 1j * step[:, None]).ravel()
    samples = (x + 1j * y)[:, None] + frame[:, None] * grid
    patches = _at(grey, samples.imag, samples.real)
    patches = patches - patches.mean(axis=1, keepdims=True)
    norm = np.sqrt((patches**2).sum(axis=1, keepdims=True))
    seen = ((samples.real > 0) & (samples.real < width - 1)).all(axis=1)
    seen &= ((samples.imag > 0) & (samples.imag < height - 1)).all(axis=1)
    seen &= norm[:, 0] > CONTRAST * PATCH
    whole = np.rint(patches[seen] / norm[seen] * STEPS).astype(np.float32)
    places = (x[seen] + 1j * y[seen] + 0.5 + 0.5j) / level - 0.5 - 0.5j
    return _Points(places, frame[seen] / level, whole)


def _pairs(points: _Points) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (N,), (N,) of keypoints that look alike, each pair in both directions."""
    spot = np.stack([points.places.real, points.places.imag], axis=1).astype(np.float32)
    found = []
    for start in range(0, len(spot), _ROWS):
        distance = _squares(points.patches[start : start + _ROWS], points.patches)
        apart = _squares(spot[start : start + _ROWS], spot)
        distance[apart < APART**2] = np.inf
        rows, nearest = np.arange(len(distance)), distance.argmin(axis=1)
        first = distance[rows, nearest]
        distance[_squares(spot[nearest], spot) < SAME**2] = np.inf
        second = distance.min(axis=1)
        clear = np.isfinite(second) & (first < RATIO**2 * second)
        found.append(np.stack([start + rows[clear], nearest[clear]], axis=1))
    one = np.concatenate(found)
    both = np.unique(np.concatenate([one, one[:, ::-1]]), axis=0)
    return both[:, 0], both[:, 1]


def _squares(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Squared distances between rows, (M, C) and (N, C): (M, N)."""
    products: np.ndarray = some @ others.T
    return (some**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * products


def _agreed(points: _Points, a: np.ndarray, b: np.ndarray) -> list[Move]:
    """The moves that pairs agree on; each pair supports one of them."""
    p, q = points.places[a], points.places[b]
    turns = points.frames[b] / points.frames[a]
    found: list[Move] = []
    left = np.arange(len(p))
    while len(left) >= AGREE and len(found) < MOVES:
        move = _best(p[left], q[left], turns[left])
        if move is None:
            break
        found.append(move)
        explained = _near(move, p[left], q[left]) | _near(move.back(), p[left], q[left])
        left = left[~explained]
    return found


def _near(move: Move, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Whether a move maps each pair onto each other, bool (N,)."""
    return np.abs(move.turn * p + move.shift - q) < TOLERANCE


def _best(p: np.ndarray, q: np.ndarray, turns: np.ndarray) -> Move | None:
    """The move most pairs agree on, fitted to them; None where fewer than `AGREE` do.

    Every pair is tried as it is turned, and as a mere shift.
    """
    best, agreeing, turned = 0, np.zeros(len(p), bool), False
    for turning in (np.ones(len(p)), turns):
        scale = np.abs(turning)
        tried = np.flatnonzero((scale > SCALES[0]) & (scale < SCALES[1]))
        if not len(tried):
            continue
        off = turning[tried, None] * (p - p[tried, None]) + q[tried, None] - q
        agree = np.abs(off) < TOLERANCE
        most = int(agree.sum(axis=1).argmax())
        if agree[most].sum() > best:
            best, agreeing, turned = int(agree[most].sum()), agree[most], turning is turns
    if best < AGREE:
        return None
    move = _fitted(p[agreeing], q[agreeing], turned)
    for _ in range(2):
        agreeing = _near(move, p, q)
        if agreeing.sum() < AGREE:
            return None
        move = _fitted(p[agreeing], q[agreeing], turned)
    return move


def _fitted(p: np.ndarray, q: np.ndarray, turned: bool) -> Move:
    """The least-squares similarity of pairs; a shift by whole pixels if it hardly turns."""
    middle, aim = p.mean(), q.mean()
    spread = float((np.abs(p - middle) ** 2).sum())
    turn = 1 + 0j
    if turned and spread > 0:
        turn = complex(((q - aim) * np.conj(p - middle)).sum() / spread)
    if abs(turn - 1) >= 0.02:
        return Move(turn, complex(aim - turn * middle), p, q)
    shifts = q - p
    shift = complex(np.round(np.median(shifts.real)), np.round(np.median(shifts.imag)))
    return Move(1 + 0j, shift, p, q)


class _Windows(NamedTuple):
    """A photo, and what correlating it with any other needs of its windows."""

    pixels: np.ndarray  # float32 (3, H, W), around 0: smaller squares, smaller rounding errors
    mean: np.ndarray  # float32 (3, H, W)
    spread: np.ndarray  # float32 (H, W), variance of the three channels together


def _windows(photo: np.ndarray) -> _Windows:
    """Of a photo, uint8 (H, W, 3)."""
    pixels = np.moveaxis(photo.astype(np.float32) - 128, 2, 0)
    return _Windows(pixels, *_moments(pixels))


def _moments(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread of windows, as in `_Windows`."""
    mean = _mean(pixels, WINDOW)
    return mean, np.maximum(_mean((pixels**2).sum(0), WINDOW) - (mean**2).sum(0), 0)


def _alike(here: _Windows, move: Move) -> np.ndarray:
    """float32 (H, W): correlation of the photo's pixels with those that a move maps them to.

    Of the three channels together, over a window; 0 where the move leads outside or to the same
    place.
    """
    height, width = here.spread.shape
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    turn, shift = move.turn, move.shift
    there_x = turn.real * x - turn.imag * y + shift.real
    there_y = turn.imag * x + turn.real * y + shift.imag
    valid = (there_x >= 0) & (there_y >= 0) & (there_x <= width - 1) & (there_y <= height - 1)
    valid &= (there_x - x) ** 2 + (there_y - y) ** 2 > APART**2
    there = np.moveaxis(_at(np.moveaxis(here.pixels, 0, 2), there_y, there_x), 2, 0)
    mean, spread = _moments(there)
    both = _mean((here.pixels * there).sum(0), WINDOW) - (here.mean * mean).sum(0)
    return both / (np.sqrt(here.spread * spread) + 3 * NOISE) * valid


def _region(alike: np.ndarray, places: np.ndarray) -> np.ndarray:
    """float32 (H, W): 0.5 to 1 in regions that are alike and hold keypoints of the move, else 0."""
    solid = _solid(alike > ALIKE)
    keypoints = np.zeros_like(alike)
    at = (places.imag.round().astype(int), places.real.round().astype(int))
    np.add.at(keypoints, tuple(i.clip(0, n - 1) for i, n in zip(at, alike.shape, strict=True)), 1)
    near, total, area = _mean(np.stack([keypoints, np.where(solid, alike, 0), solid]), REACH)
    mean = total / np.maximum(area, 1e-6)
    counts = solid & (near * REACH**2 > NEAR - 0.5) & (mean > ENOUGH)
    return np.where(counts, np.clip(0.5 + 5 * (mean - ENOUGH), 0, 1), 0).astype(np.float32)


def _solid(mask: np.ndarray, side: int = 5) -> np.ndarray:
    """A mask without holes and specks smaller than a square of `side`: closed, then opened."""
    one = 0.5 / side**2
    grown = _mean(mask.astype(np.float32), side) > one
    closed = _mean(grown.astype(np.float32), side) > 1 - one
    shrunk = _mean(closed.astype(np.float32), side) > 1 - one
    return _mean(shrunk.astype(np.float32), side) > one


def _mean(values: np.ndarray, side: int) -> np.ndarray:
    """float32 (..., H, W): mean over a square of odd `side`, the border repeated beyond it.

    Sums of 1, 2, 4, ... neighbours make that of any number of them in few additions.
    """
    half = side // 2
    for axis in (-2, -1):
        edges = [(0, 0)] * values.ndim
        edges[axis] = (half, half)
        sums = np.moveaxis(np.pad(values, edges, mode="edge"), axis, 0)
        length, start, width = values.shape[axis], 1, 1
        total = sums[:length].copy()  # the side is odd
        while 2 * width <= side:
            sums = sums[:-width] + sums[width:]
            width *= 2
            if side & width:
                total += sums[start : start + length]
                start += width
        values = np.moveaxis(total / np.float32(side), 0, axis)
    return values


def _at(image: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """float32 (*y.shape[, C]): an image (H, W[, C]) between its pixels, bilinear."""
    height, width = image.shape[:2]
    x, y = x.clip(0, width - 1.001), y.clip(0, height - 1.001)
    left, top = x.astype(np.int64), y.astype(np.int64)
    right, down = ((v - w).astype(np.float32).reshape(-1, 1) for v, w in ((x, left), (y, top)))
    flat = image.reshape(height * width, -1)
    at = (top * width + left).ravel()
    above = flat[at] * (1 - right) + flat[at + 1] * right
    below = flat[at + width] * (1 - right) + flat[at + width + 1] * right
    return (above * (1 - down) + below * down).reshape(*x.shape, *image.shape[2:])
