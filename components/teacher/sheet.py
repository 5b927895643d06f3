"""The contact sheet: photo with boxes, pseudo-mask and true mask, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from components.data.images import open_mask, open_photo, save_photo

_EACH = 3  # photos shown of the best, median and worst
_TILE = 256  # pixels, long side of a picture
_GAP = 6
_CAPTION = 22
_BOX, _MASK, _TRUE = (255, 196, 0), (230, 40, 60), (30, 120, 230)


@dataclass(frozen=True)
class Case:
    """One row of the sheet: files, drawn boxes float64 (N, 4), and what to write above."""

    caption: str
    megapixels: float
    photo: Path
    boxes: np.ndarray
    mask: Path
    truth: Path | None


def pick(labels: pd.DataFrame) -> list[tuple[str, str]]:
    """Captions and image ids of the best, median and worst photos.

    Ranked by IoU with the true mask, by confidence where there are no true masks.
    """
    by = "iou_vs_mask" if labels["iou_vs_mask"].notna().any() else "confidence"
    what = "IoU" if by == "iou_vs_mask" else "confidence"
    ranked = labels[labels[by].notna()].sort_values([by, "image_id"], ascending=[False, True])
    ids, values = ranked["image_id"].tolist(), ranked[by].tolist()
    middle = max(0, (len(ids) - _EACH) // 2)
    places = {"best": 0, "median": middle, "worst": max(0, len(ids) - _EACH)}
    return [
        (f"{title}: {what} {values[place]:.3f}", ids[place])
        for title, start in places.items()
        for place in range(start, min(start + _EACH, len(ids)))
    ]


def contact_sheet(path: Path, cases: list[Case]) -> None:
    """Write a PNG with one row per case; a blank one where there is nothing to show."""
    rows = [_row(case) for case in cases] or [
        np.full((_TILE, 3 * (_TILE + _GAP), 3), 255, np.uint8)
    ]
    save_photo(path, np.concatenate(rows))


def _row(case: Case) -> np.ndarray:
    """Photo and boxes | mask over the photo | true mask over the photo."""
    photo = open_photo(case.photo, case.megapixels)
    mask = open_mask(case.mask, case.megapixels)
    tiles = [_boxes(photo, case.boxes), _paint(photo, mask, _MASK)]
    if case.truth is not None:
        truth = open_mask(case.truth, case.megapixels)
        if truth.shape == mask.shape:
            tiles.append(_paint(photo, truth, _TRUE))
    fitted = [_fit(tile) for tile in tiles]
    height = fitted[0].shape[0]
    row = np.full((_CAPTION + height + _GAP, 3 * (_TILE + _GAP), 3), 255, np.uint8)
    for index, small in enumerate(fitted):
        left = index * (_TILE + _GAP)
        row[_CAPTION : _CAPTION + small.shape[0], left : left + small.shape[1]] = small
    cv2.putText(
        row, case.caption, (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA
    )
    return row


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
