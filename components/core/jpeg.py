"""JPEG: how strongly a file was compressed."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

# The luminance table of the JPEG standard (ITU T.81, table K.1), which libjpeg scales by quality.
STANDARD = np.array(
    [
        16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
        14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
        18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
        49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
    ],
    dtype=np.float64,
)  # fmt: skip


def jpeg_quality(data: bytes) -> float | None:
    """The quality, 1..100, that libjpeg would name for a JPEG's luminance table; None for others.

    Tables of other encoders are placed on the same scale by their mean ratio to the standard's.
    """
    try:
        with Image.open(BytesIO(data)) as image:
            tables: dict[int, list[int]] | None = getattr(image, "quantization", None)
    except (OSError, ValueError):  # not a picture at all
        return None
    if not tables or 0 not in tables:
        return None
    # Both in raster order; entries that were cut off at 1 or 255 say nothing of the scale.
    table = np.array(tables[0], dtype=np.float64)
    inner = (table > 1) & (table < 255)
    if not inner.any():
        return 100.0 if table.max() <= 1 else 1.0
    scale = float(np.median(table[inner] / STANDARD[inner]) * 100)
    return float(np.clip(100 - scale / 2 if scale <= 100 else 5000 / scale, 1, 100))
