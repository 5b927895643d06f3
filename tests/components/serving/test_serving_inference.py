"""Which photos the student can say something about."""

from __future__ import annotations

import numpy as np
import pytest

from components.serving.inference import Limits, unsuitable

LIMITS = Limits(side=20, quality=30)
PLAIN = "featureless (all pixels are equal)"


def plain(*colour: int) -> np.ndarray:
    photo = np.empty((40, 50, 3), dtype=np.uint8)
    photo[:] = colour
    return photo


def spot(row: int, column: int, channel: int) -> np.ndarray:
    """A plain photo but for one value."""
    photo = plain(7, 7, 7)
    photo[row, column, channel] = 8
    return photo


@pytest.mark.parametrize(
    ("photo", "quality", "reason"),
    [
        (plain(0, 0, 0), None, PLAIN),
        (plain(255, 255, 255), 90.0, PLAIN),
        (plain(200, 30, 90), None, PLAIN),
        (plain(0, 0, 0)[:1], None, "too small (50x1)"),
        (plain(0, 0, 0)[:, :19], None, "too small (19x40)"),
        (spot(0, 1, 0), None, None),
        (spot(0, 0, 2), None, None),
        (spot(39, 49, 1), 30.0, None),
        (spot(39, 49, 1), 29.4, "recompressed too strongly (JPEG quality about 29)"),
        (spot(20, 20, 0)[:20, :20], None, PLAIN),
        (spot(20, 20, 0)[1:21, 1:21], None, None),
    ],
)
def test_reasons(photo: np.ndarray, quality: float | None, reason: str | None) -> None:
    assert unsuitable(photo, quality, LIMITS) == reason
