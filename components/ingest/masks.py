"""True masks: what their pixels say, before they are taken for black and white.

Tools also write masks whose regions have a colour each, or class numbers from 0, or white where
nothing was done; read by a threshold, all of these would be wrong masks without a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from components.core import images
from components.data.boxes import component_boxes

# Between black and white with room for JPEG's noise.
_DARK, _LIGHT = 64, 192
_NUMBERS = 32  # class numbers are below this
_FEW = 8  # a mask of classes has no more values than this; noise has
_SPREAD = 48  # between the channels of a pixel that has a colour
_TRACE = 0.01  # of the marked pixels
_NAMES = {
    (True, False, False): "red",
    (False, True, False): "green",
    (False, False, True): "blue",
    (True, True, False): "yellow",
    (False, True, True): "cyan",
    (True, False, True): "magenta",
}
_SAVE = "save it as 0 and 255, where 255 is manipulated"


class MaskSeen(NamedTuple):
    """What is known of a mask; `white` is the share of its pixels that it marks."""

    size: tuple[int, int]
    white: float = 0.0
    problem: str | None = None
    notes: tuple[str, ...] = ()


def look(path: Path, max_megapixels: float, *, invert: bool = False) -> MaskSeen:
    """Decode a mask once and judge it; raises PhotoError for one that cannot be read.

    Args:
        path: the mask's file.
        max_megapixels: refused above this.
        invert: judge it with black and white exchanged.
    """
    data = images.read_bytes(path, max_megapixels)
    values = images.mask_values(data, str(path), max_megapixels)
    grey = values if values.ndim == 2 else values.max(axis=2)
    grey = 255 - grey if invert else grey
    counts = cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel().astype(int)
    seen = MaskSeen((grey.shape[1], grey.shape[0]), float(counts[128:].sum() / counts.sum()))
    if what := _coloured(values) or _grey(counts):
        return seen._replace(problem=f"mask {what}: {path.name}; {_SAVE}")
    component_boxes(images.marked(grey))  # refuses noise
    return seen._replace(notes=_notes(counts, seen.white, invert))


def _coloured(values: np.ndarray) -> str | None:
    """Which colours a mask has, if more than a trace of what is not black has any."""
    if values.ndim == 2:
        return None
    low, high = values.min(axis=2), values.max(axis=2)
    coloured = values[(high - low) > _SPREAD]
    if len(coloured) <= _TRACE * np.count_nonzero(high >= _DARK):
        return None
    middle = (coloured.max(axis=1) // 2 + coloured.min(axis=1) // 2)[:, None]
    kinds, counts = np.unique(coloured > middle, axis=0, return_counts=True)
    found = {tuple(kind) for kind in kinds[counts >= _TRACE * len(coloured)].tolist()}
    return f"is coloured ({', '.join(name for kind, name in _NAMES.items() if kind in found)})"


def _grey(counts: np.ndarray) -> str | None:
    """What is wrong with a mask's values, given how many pixels have each (256 counts)."""
    values = np.flatnonzero(counts)
    marked, classes = counts[128:].sum(), counts[1:_NUMBERS].sum()
    if values[-1] == 0:
        return "is empty"
    numbered = len(values) <= _FEW and values[0] == 0 and classes > marked
    if values[-1] < _NUMBERS or numbered:
        return f"has the values {_listed(values.tolist())}"
    middle, light = counts[_DARK:_LIGHT].sum(), counts[_LIGHT:].sum()
    if middle > 9 * light or 2 * middle > counts.sum():
        return f"is grey, {middle / counts.sum():.0%} of it neither black nor white"
    return None


def _listed(values: Sequence[int]) -> str:
    """`0 and 1`, `0, 1 and 2`, `0 to 30`."""
    if len(values) > _FEW:
        return f"{values[0]} to {values[-1]}"
    *most, last = map(str, values)
    return f"{', '.join(most)} and {last}" if most else last


def _notes(counts: np.ndarray, white: float, inverted: bool) -> tuple[str, ...]:
    """What is unusual about a mask that is taken."""
    middle, light = counts[_DARK:_LIGHT].sum(), counts[_LIGHT:].sum()
    notes = {
        "mask inverted": inverted,
        "mask has soft edges: values above half mean manipulated": 4 * middle > middle + light,
        "mask is all white": white == 1,
        f"mask is mostly white: {white:.0%}": 0.5 < white < 1,
    }
    return tuple(note for note, holds in notes.items() if holds)
