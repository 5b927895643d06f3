"""The contact sheet: photo with boxes, pseudo-mask and true mask, side by side, under headings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from components.core.images import open_mask, open_photo, save_photo

_EACH = 3  # photos shown of the best, median and worst
_TILE = 256  # pixels, long side of a picture
_GAP = 8
_HEADING, _CAPTION = 32, 24  # pixels of text rows
_COLUMNS = ("photo and boxes", "pseudo-mask", "true mask")
_WIDTH = len(_COLUMNS) * (_TILE + _GAP) + _GAP
_BOX, _MASK, _TRUE = (255, 196, 0), (230, 40, 60), (30, 120, 230)
_INK, _QUIET = (22, 32, 43), (85, 97, 110)


@dataclass(frozen=True)
class Case:
    """One row of the sheet.

    Attributes:
        section: its heading; cases of one section follow each other.
        name: of the photo.
        figure: its number in words.
        megapixels: that the files may have.
        photo, mask, truth: files; the truth where it is known.
        boxes: that were drawn, float64 (N, 4).
    """

    section: str
    name: str
    figure: str
    megapixels: float
    photo: Path
    boxes: np.ndarray
    mask: Path
    truth: Path | None


def pick(labels: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Section, image id and figure of the best, median and worst photos.

    Ranked by IoU with the true mask, by confidence where there are no true masks.
    """
    by = "iou_vs_mask" if labels["iou_vs_mask"].notna().any() else "confidence"
    what = "IoU" if by == "iou_vs_mask" else "confidence"
    ranked = labels[labels[by].notna()].sort_values([by, "image_id"], ascending=[False, True])
    ids, values = ranked["image_id"].tolist(), ranked[by].tolist()
    middle = max(0, (len(ids) - _EACH) // 2)
    places = {"Best": 0, "Median": middle, "Worst": max(0, len(ids) - _EACH)}
    return [
        (f"{title} by {what}", ids[place], f"{what} {values[place]:.3f}")
        for title, start in places.items()
        for place in range(start, min(start + _EACH, len(ids)))
    ]


def contact_sheet(path: Path, cases: list[Case]) -> None:
    """Write a PNG with one row per case, under headings; without cases it says so."""
    strips = [_strip(_HEADING, [(_GAP, "Pseudo-masks" if cases else "No pseudo-masks", 20, _INK)])]
    section = None
    for case in cases:
        if case.section != section:
            section = case.section
            strips.append(_strip(_HEADING, [(_GAP, section, 17, _INK)]))
            lefts = [_GAP + index * (_TILE + _GAP) for index in range(len(_COLUMNS))]
            columns = [(left, name, 13, _QUIET) for left, name in zip(lefts, _COLUMNS, strict=True)]
            strips.append(_strip(_CAPTION, columns))
        strips.append(_row(case))
    save_photo(path, np.concatenate(strips))


def _row(case: Case) -> np.ndarray:
    """Photo and boxes | mask over the photo | true mask over the photo; its name below."""
    photo = open_photo(case.photo, case.megapixels)
    mask = open_mask(case.mask, case.megapixels)
    tiles = [_boxes(photo, case.boxes), _paint(photo, mask, _MASK)]
    if case.truth is not None:
        truth = open_mask(case.truth, case.megapixels)
        if truth.shape == mask.shape:
            tiles.append(_paint(photo, truth, _TRUE))
    fitted = [_fit(tile) for tile in tiles]
    row = np.full((fitted[0].shape[0], _WIDTH, 3), 255, np.uint8)
    for index, small in enumerate(fitted):
        left = _GAP + index * (_TILE + _GAP)
        row[: small.shape[0], left : left + small.shape[1]] = small
    size, figure = 13, f"{case.figure}   "
    room = _WIDTH - 2 * _GAP - _font(size).getlength(figure)
    name = _shortened(case.name, size, room)
    return np.concatenate([row, _strip(_CAPTION + _GAP, [(_GAP, figure + name, size, _INK)])])


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings: the same letters on every machine."""
    folder = Path(matplotlib.get_data_path()) / "fonts/ttf"
    basic = ImageFont.Layout.BASIC  # another layout engine may or may not be installed
    return ImageFont.truetype(str(folder / "DejaVuSans.ttf"), size, layout_engine=basic)


def _strip(height: int, texts: list[tuple[int, str, int, tuple[int, int, int]]]) -> np.ndarray:
    """A white strip of the sheet's width with texts: left edge, words, size, colour."""
    strip = Image.new("RGB", (_WIDTH, height), "white")
    for left, words, size, colour in texts:
        place = (left, height // 2)
        ImageDraw.Draw(strip).text(place, words, colour, font=_font(size), anchor="lm")
    return np.asarray(strip)


def _shortened(name: str, size: int, room: float) -> str:
    """A name that fits; of a long one the middle is left out, its end tells photos apart."""
    name = name if name.isprintable() else name.encode("unicode_escape").decode()
    font, kept = _font(size), name
    while font.getlength(kept) > room:
        half = (len(kept) - 2) // 2
        kept = f"{name[:half]}…{name[-half:]}"
    return kept


def _fit(picture: np.ndarray) -> np.ndarray:
    """Scale so that the long side is a tile's."""
    height, width = picture.shape[:2]
    scale = _TILE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _paint(photo: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """The photo with a mask laid over it."""
    painted = photo.copy()
    painted[mask] = (0.5 * photo[mask] + 0.5 * np.array(colour)).astype(np.uint8)
    return painted


def _boxes(photo: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The photo with its boxes drawn."""
    drawn = photo.copy()
    width = max(1, round(max(photo.shape[:2]) / _TILE))
    for x0, y0, x1, y1 in np.rint(boxes).astype(int).tolist():
        cv2.rectangle(drawn, (x0, y0), (x1 - 1, y1 - 1), _BOX, width)
    return drawn
