"""Pictures of predictions for people: overlay and contact sheet, as arrays.

The drawing itself lies in the evaluation layer, whose report needs it too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from components.evaluation.pictures import overlay as overlay
from components.evaluation.pictures import thumbnail

_GAP = 8


def contact_sheet(rows: Sequence[Sequence[np.ndarray]], side: int = 220) -> np.ndarray:
    """Lay out pictures in rows, each shrunk to a cell of `side` pixels, on white.

    Args:
        rows: pictures uint8 (H, W) or (H, W, 3); rows may differ in length.
        side: of a cell, in pixels.

    Returns:
        uint8 (H, W, 3), RGB.
    """
    columns = max((len(row) for row in rows), default=0)
    step = side + _GAP
    sheet = np.full((len(rows) * step + _GAP, columns * step + _GAP, 3), 255, dtype=np.uint8)
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            small = thumbnail(image, side)
            small = small if small.ndim == 3 else np.repeat(small[..., None], 3, axis=2)
            height, width = small.shape[:2]
            top = _GAP + y * step + (side - height) // 2
            left = _GAP + x * step + (side - width) // 2
            sheet[top : top + height, left : left + width] = small
    return sheet
