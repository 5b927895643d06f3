from __future__ import annotations

import math
from pathlib import Path

import pytest

from components.ingest.checks import Seen, clipped, problem
from components.ingest.formats.record import Box, Record
from components.ingest.masks import MaskSeen

SEEN = Seen(sha256="x", size=(96, 64))


def record(label: str = "manipulated", *boxes: Box, **more: object) -> Record:
    return Record(Path("a.jpg"), "a.jpg", label, boxes=boxes, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        (Box(0, 0, 96, 64), None),
        (Box(-0.9, -0.9, 97.8, 65.8), None),
        (Box(math.nan, 0, 1, 1), "not finite"),
        (Box(0, 0, math.inf, 1), "not finite"),
        (Box(10, 10, -5, 5), "inverted"),
        (Box(10, 10, 5, 0), "inverted or empty"),
        (Box(-2, 0, 10, 10), "outside the photo \\(96x64\\)"),
        (Box(90, 0, 10, 10), "outside"),
        (Box(0, 60, 10, 10), "outside"),
        (Box(-0.9, 5, 0.5, 20), "outside"),
        (Box(96, 5, 0.5, 20), "outside"),
        (Box(1, 1, 5, 5, seconds=math.nan), "took nan seconds"),
        (Box(1, 1, 5, 5, region=[[1.0, 1.0, math.nan, 2.0]]), "outline of box .* is not finite"),
    ],
)
def test_a_bad_box_is_named(box: Box, reason: str | None) -> None:
    found = problem(record("manipulated", box), SEEN)
    if reason is None:
        assert found is None
        x, y, width, height = clipped(box, 96, 64)
        assert min(x, y) >= 0
        assert (x + width, y + height) == (96, 64)
    else:
        import re

        assert found is not None
        assert re.search(reason, found)


def test_what_else_can_be_wrong_with_a_row() -> None:
    box = Box(1, 1, 5, 5)
    mask = MaskSeen((96, 64), 0.1)
    masked = {"mask": Path("m.png")}
    assert problem(record("manipulated", box), SEEN) is None
    long = Record(Path("a.jpg"), f"{'b' * 300}/{'é' * 120}x", "authentic")
    assert problem(long, SEEN) == "its name is longer than 240 bytes"
    assert problem(record("manipulated"), SEEN) == "manipulated, but has neither box nor mask"
    assert problem(record("authentic", box), SEEN) == "authentic, but has a box"
    assert problem(record("manipulated", box, size=(64, 96)), SEEN) == (
        "annotated as 64x96 but is 96x64 upright"
    )
    assert problem(record(**masked), SEEN._replace(mask=mask)) is None
    wrong = SEEN._replace(mask=mask._replace(size=(96, 63)))
    assert problem(record(**masked), wrong) == "mask is 96x63 but the photo is 96x64: m.png"
    empty = SEEN._replace(mask=mask._replace(problem="mask is empty"))
    assert problem(record(**masked), empty) == "mask is empty"
    assert problem(record("manipulated", box), Seen(problem="empty file")) == "empty file"
