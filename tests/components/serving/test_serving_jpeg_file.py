"""The structure of a JPEG: as libjpeg wrote it, and of files made to confuse."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from components.serving.jpeg_file import standard_quality, structure

PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8))


def saved(mode: str = "RGB", **options: object) -> bytes:
    file = BytesIO()
    PHOTO.convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize(("sampling", "name"), [(0, "4:4:4"), (1, "4:2:2"), (2, "4:2:0")])
@pytest.mark.parametrize("quality", [10, 50, 75, 90, 100])
def test_tables_sampling_and_quality(sampling: int, name: str, quality: int) -> None:
    data = saved(quality=quality, subsampling=sampling)
    found = structure(data)
    assert found is not None
    assert (found.process, found.scans, found.sampling) == ("baseline", 1, name)
    known = Image.open(BytesIO(data)).quantization
    assert {n: [v for row in rows for v in row] for n, rows in found.tables.items()} == known
    assert standard_quality(found.tables[0]) == quality
    found.tables[0][3][4] += 1
    assert standard_quality(found.tables[0]) is None


def test_progressive_grey_and_four_colours() -> None:
    progressive = structure(saved(progressive=True))
    assert progressive is not None
    assert progressive.process == "progressive"
    assert progressive.scans == 10
    grey, cmyk = structure(saved("L")), structure(saved("CMYK"))
    assert grey is not None
    assert cmyk is not None
    assert grey.sampling == "grey, no colour stored"
    assert cmyk.sampling == "1x1, 1x1, 1x1, 1x1 (by component)"
    assert cmyk.segments == [("Adobe", 1, 12)]


def test_segments_comments_and_what_follows_the_picture() -> None:
    data = saved(comment=b"by hand", exif=Image.Exif(), icc_profile=b"p" * 70_000)
    found = structure(data + b"movie")
    assert found is not None
    kinds = {kind: (number, size) for kind, number, size in found.segments}
    assert kinds["comment"] == (1, 7)
    assert kinds["colour profile (ICC)"] == (2, 70_000 + 2 * 14)
    assert found.comments == [b"by hand"]
    assert found.after == 5


def test_others_are_no_jpeg() -> None:
    assert structure(b"") is None
    assert structure(b"\x89PNG\r\n\x1a\n") is None


def test_damage_never_raises_nor_hangs() -> None:
    data, random = saved(progressive=True, comment=b"c" * 50), np.random.default_rng(1)
    for number in range(3000):
        bad = bytearray(data[: random.integers(3, len(data))] if number % 3 else data)
        for _ in range(random.integers(1, 12)):
            bad[random.integers(3, len(bad)) if len(bad) > 3 else 2] = random.integers(256)
        structure(bytes(bad))
    for tail in (b"\xff" * 100_000, b"\xff\xdb\x00\x02" * 50_000, b"\xff\xda\x00\x02" * 50_000):
        assert structure(b"\xff\xd8" + tail) is not None
