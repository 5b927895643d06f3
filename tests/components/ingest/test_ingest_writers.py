"""Every writer and reader: what a format holds comes back as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from writers_support import FORMATS, corners, demo, export, flat  # noqa: F401

from components.ingest.formats import registry
from components.ingest.formats.record import Record
from components.ingest.formats.regions import from_array
from components.ingest.writers import regions
from components.ingest.writers.registry import WRITERS

ROUNDED = {"voc"}  # corners in whole pixels
REGION_FOR_BOX = {"yolo", "cvat", "label-studio"}  # a shape is either
EXACT = {"coco", "cvat", "label-studio"}  # hold every pixel of a region


def test_every_format_is_tried() -> None:
    assert tuple(WRITERS) == FORMATS


def read_back(root: Path, out: Path, format: str) -> tuple[list[Record], dict[str, Record]]:
    """The records as exported, and by name as read by the format that is detected."""
    made = export(root, out, format)
    reading = registry.read(out)
    assert not [left for left in reading.left if "photo" in left.reason]
    return made.records, {record.name: record for record in reading.records}


@pytest.mark.parametrize("format", FORMATS)
def test_photos_labels_kinds_and_splits_come_back(demo: Path, tmp_path: Path, format: str) -> None:
    before, now = read_back(demo, tmp_path / "out", format)
    assert sorted(now) == sorted(record.name for record in before)
    for record in before:
        back = now[record.name]
        assert back.photo.read_bytes() == record.photo.read_bytes()
        assert back.problem is None
        assert back.split == record.split
        assert back.size in (record.size, None)
        if record.boxes or "manipulated photos without a box" in WRITERS[format].keeps:
            assert back.label == record.label
        if record.boxes or "kinds of photos without a box" in WRITERS[format].keeps:
            assert back.kind == record.kind
        if "sources of photos" in WRITERS[format].keeps:
            assert (back.source, back.origins) == (record.source, record.origins)


@pytest.mark.parametrize("format", FORMATS)
def test_boxes_come_back(demo: Path, tmp_path: Path, format: str) -> None:
    before, now = read_back(demo, tmp_path / "out", format)
    for record in before:
        back = now[record.name].boxes
        assert len(back) == len(record.boxes)
        for old, new in zip(record.boxes, back, strict=True):
            if old.region is None or format not in REGION_FOR_BOX:
                off = 0.5 if format in ROUNDED else 1e-4
                assert np.abs(corners(old) - corners(new)).max() <= off
            else:
                y, x = np.nonzero(regions.decode(old.region, record.size))
                tight = [x.min(), y.min(), x.max() + 1, y.max() + 1]
                assert np.abs(tight - corners(new)).max() <= 1


@pytest.mark.parametrize("format", FORMATS)
def test_regions_come_back(demo: Path, tmp_path: Path, format: str) -> None:
    before, now = read_back(demo, tmp_path / "out", format)
    count = 0
    for record in before:
        for old, new in zip(record.boxes, now[record.name].boxes, strict=True):
            assert (old.region is None) == (new.region is None)
            if old.region is not None and new.region is not None:
                was, is_now = (regions.decode(r, record.size) for r in (old.region, new.region))
                count += 1
                assert not (was ^ is_now)[~edge(was, 0 if format in EXACT else 1)].any()
    assert count == 3


def edge(mask: np.ndarray, pixels: int) -> np.ndarray:
    """Pixels that lie within so many pixels of a mask's edge."""
    import cv2

    kernel = np.ones((2 * pixels + 1,) * 2, np.uint8)
    wide = cv2.dilate(mask.astype(np.uint8), kernel)
    return (wide - cv2.erode(mask.astype(np.uint8), kernel, borderValue=0)).astype(bool)


@pytest.mark.parametrize("format", FORMATS)
def test_who_drew_a_box_and_how_long_comes_back_where_it_is_held(
    demo: Path, tmp_path: Path, format: str
) -> None:
    before, now = read_back(demo, tmp_path / "out", format)
    held = "annotators of boxes" in WRITERS[format].keeps
    for record in before:
        for old, new in zip(record.boxes, now[record.name].boxes, strict=True):
            assert new.annotator == (old.annotator if held else None)
            if (
                len(record.boxes) == 1 or format != "label-studio"
            ):  # Label Studio knows the time of a whole photo
                assert new.seconds == (old.seconds if held else None)


# --- regions


@pytest.mark.parametrize("seed", range(40))
def test_one_line_round_a_mask_holds_its_parts_and_holes_to_a_pixel(seed: int) -> None:
    random = np.random.default_rng(seed)
    mask = random.random((int(random.integers(8, 40)), int(random.integers(8, 40)))) > 0.6
    size = mask.shape[::-1]
    region = from_array(mask)
    assert (regions.decode(region, size) == mask).all()
    back = regions.decode([regions.joined(regions.rings(region, size))], size)
    assert not (mask ^ back)[~edge(mask, 1)].any()


def test_runs_begin_outside() -> None:
    mask = np.array([[1, 1, 0], [0, 1, 0]], bool)
    assert regions.runs(mask) == [0, 2, 2, 1, 1]
    assert regions.runs(~mask) == [2, 2, 1, 1]
