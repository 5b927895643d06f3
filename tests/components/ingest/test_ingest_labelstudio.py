from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_support import write_photo
from ingest_support import by_name, sides
from pycocotools import mask as codec

from components.core.errors import InputError
from components.ingest.formats import registry
from components.ingest.formats.labelstudio import unpack
from components.ingest.formats.record import Record, RowError


def shape(kind: str = "rectangle", **value: Any) -> dict[str, Any]:
    """A row of a result; a rectangle of 30x16 at 15, 20 of 96x64 pixels unless told otherwise."""
    place = {"x": 15.625, "y": 31.25, "width": 31.25, "height": 25, "rotation": 0}
    value = {**(place if kind == "rectangle" else {}), f"{kind}labels": ["splice"], **value}
    size = {"original_width": 96, "original_height": 64, "image_rotation": 0}
    return {"id": "x1", "type": f"{kind}labels", "value": value, **size}


def task(photo: str, *results: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    rows = [
        {"result": result, "completed_by": 7, "was_cancelled": False, "lead_time": 6.0}
        for result in results
    ]
    return {"id": 1, "data": {"image": photo}, "annotations": rows, **more}


def write(root: Path, *tasks: dict[str, Any]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "project-1.json").write_text(json.dumps(tasks))
    return root


def one(root: Path, *shapes: dict[str, Any]) -> Record:
    write_photo(root / "a.jpg", 1)
    return by_name(write(root, task("a.jpg", list(shapes))))["a.jpg"]


def pack(values: np.ndarray, lengths: tuple[int, ...] = (3, 4, 8, 16)) -> list[int]:
    """The bytes as @thi.ng/rle-pack packs them, literals and runs."""
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{length - 1:04b}" for length in lengths)
    place = 0

    def block(run: bool, items: list[int], count: int) -> str:
        which = next(i for i, length in enumerate(lengths) if count - 1 < 1 << length)
        head = f"{int(run)}{which:02b}{count - 1:0{lengths[which]}b}"
        return head + "".join(f"{item:08b}" for item in items)

    while place < len(values):
        end = place + 1
        while end < len(values) and values[end] == values[place] and end - place < 1 << 16:
            end += 1
        if end - place > 1:
            bits += block(True, [values[place]], end - place)
        else:
            while end < len(values) and end - place < 100 and values[end] != values[end - 1]:
                end += 1
            bits += block(False, values[place:end].tolist(), end - place)
        place = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def test_rectangles_in_per_cent(tmp_path: Path) -> None:
    record = one(tmp_path, shape(), shape(rectanglelabels=["manipulated"]))
    assert sides(record) == [(15, 20, 30, 16)] * 2
    assert [(box.annotator, box.seconds) for box in record.boxes] == [("7", 3.0)] * 2
    record = one(tmp_path, shape(rotation=90, x=50, y=25, width=41.6666667, height=15.625))
    assert sides(record) == [(38, 16, 10, 40)]  # turned about its top left corner
    assert "turned by 90" in (record.boxes[0].note or "")
    labels = {**shape(), "type": "labels", "value": {"labels": ["removal"]}}
    plain = {**shape(), "type": "rectangle"}
    del plain["value"]["rectanglelabels"]
    assert one(tmp_path, plain, labels).kind == "removal"


def test_outlines(tmp_path: Path) -> None:
    record = one(tmp_path, shape("polygon", points=[[12.5, 25], [50, 25], [50, 75]]))
    assert (sides(record), record.kind) == ([(12, 16, 36, 32)], "splice")
    assert record.boxes[0].region == [[12, 16, 48, 16, 48, 48]]
    record = one(tmp_path, shape("ellipse", x=50, y=50, radiusX=12.5, radiusY=12.5))
    assert sides(record) == [(36, 24, 24, 16)]
    record = one(tmp_path, shape(), shape("keypoint", x=1, y=1, width=1))
    assert len(record.boxes) == 1
    assert registry.read(tmp_path).left == [("a.jpg: keypoint", "gives no box")]
    choice = {"type": "choices", "value": {"choices": ["night"]}}
    assert one(tmp_path, shape(), choice).problem is None
    assert registry.read(tmp_path).left == [("a.jpg: choices", "no shape")]
    assert "gives a box (bitmask)" in (one(tmp_path, shape("bitmask")).problem or "")
    assert "gives a box (keypoint)" in (one(tmp_path, shape("keypoint", x=1)).problem or "")


@pytest.mark.parametrize("seed", range(6))
def test_brushes(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    opacity = np.zeros((64, 96), np.uint8)
    opacity[20:36, 15:45] = rng.choice([0, 90, 200, 255], (16, 30))
    picture = np.repeat(opacity.ravel(), 4)
    if seed % 2:
        picture = np.stack([np.full_like(opacity, 17)] * 3 + [opacity], axis=-1).ravel()
    packed = pack(picture)
    assert np.array_equal(unpack(packed, picture.size), picture)
    region = one(tmp_path, shape("brush", format="rle", rle=packed)).boxes[0].region
    assert isinstance(region, dict)
    assert np.array_equal(codec.decode(region), opacity > 127)


def test_a_damaged_brush_is_a_bad_row(tmp_path: Path) -> None:
    packed = pack(np.zeros(4 * 96 * 64, np.uint8))
    for broken in (packed[:6], [], None, ["a"], [256], packed[:-3], [255] * 200):
        problem = one(tmp_path, shape("brush", rle=broken)).problem
        assert problem is not None
    assert "its mask is empty" in (one(tmp_path, shape("brush", rle=packed)).problem or "")
    with pytest.raises(RowError, match="0 values of 8 bits, not 4"):
        unpack(pack(np.zeros(0, np.uint8)), 4)


@pytest.mark.parametrize(
    ("address", "file"),
    [
        ("/data/upload/3/1a2b3c4d-a.jpg", "1a2b3c4d-a.jpg"),
        ("/data/upload/3/1a2b3c4d-a.jpg", "images/a.jpg"),
        ("/data/local-files/?d=set%201/a.jpg", "set 1/a.jpg"),
        ("s3://bucket/photos/a.jpg", "photos/a.jpg"),
        ("https://host.org/x/a%20b.jpg?token=1", "a b.jpg"),
        ("C:\\photos\\a.jpg", "a.jpg"),
        ("a%20#1?.jpg", "a%20#1?.jpg"),
    ],
)
@pytest.mark.parametrize("key", ["image", "picture"])
def test_photos_are_found_in_addresses(tmp_path: Path, address: str, file: str, key: str) -> None:
    write_photo(tmp_path / file, 1)
    row = {**task(address, [shape()]), "data": {"text": "a note", key: address}}
    (record,) = registry.read(write(tmp_path, row)).records
    assert (record.photo, record.problem) == (tmp_path / file, None)


def test_which_annotation_counts(tmp_path: Path) -> None:
    for seed, name in enumerate("abcd"):
        write_photo(tmp_path / f"{name}.jpg", seed)
    several = task("a.jpg", [shape(), shape()], [shape()], predictions=[{}])
    truth = task("b.jpg", [shape(), shape()], [shape()])
    truth["annotations"][0]["ground_truth"] = True
    cancelled = task("c.jpg", [shape()])
    cancelled["annotations"][0]["was_cancelled"] = True
    new = task("d.jpg")
    reading = registry.read(write(tmp_path, several, truth, cancelled, new))
    assert [(r.name, len(r.boxes), r.notes) for r in reading.records] == [
        ("a.jpg", 1, ("the last of its 2 annotations", "its predictions are ignored")),
        ("b.jpg", 2, ("the ground truth of its 2 annotations",)),
    ]
    assert reading.left == [
        ("c.jpg", "its annotations were cancelled"),
        ("d.jpg", "not annotated"),
    ]
    with pytest.raises(InputError, match="2 tasks or files and not one annotation"):
        registry.read(write(tmp_path, cancelled, new))
    several["annotations"][0]["updated_at"] = "2025-01-02T00:00:00Z"
    several["annotations"][1]["updated_at"] = "2025-01-01T00:00:00Z"
    assert len(by_name(write(tmp_path, several))["a.jpg"].boxes) == 2
    empty = by_name(write(tmp_path, task("a.jpg", []), truth))["a.jpg"]
    assert (empty.label, empty.problem) == ("authentic", None)


def test_the_minimal_export(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.jpg", 1)
    write_photo(tmp_path / "b.jpg", 2)
    row = {"image": "/data/upload/1/a.jpg", "id": 1, "annotation_id": 1, "lead_time": 4.0}
    drawn = {**shape()["value"], "original_width": 96, "original_height": 64}
    brush = {
        "format": "rle",
        "rle": pack(np.full(4 * 96 * 64, 255, np.uint8)),
        "brushlabels": ["x"],
    }
    row = {**row, "label": [drawn, brush], "annotator": 3}
    plain = {**row, "image": "b.jpg", "label": [], "id": 2}
    records = by_name(write(tmp_path, row, plain))
    assert sides(records["a.jpg"]) == [(15, 20, 30, 16), (0, 0, 96, 64)]
    assert (records["a.jpg"].boxes[0].annotator, records["a.jpg"].kind) == ("3", "splice+x")
    assert (records["b.jpg"].label, records["b.jpg"].problem) == ("authentic", None)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (shape(x="left"), "x is 'left', not a number"),
        ({**shape(), "original_width": 48}, "drawn on a photo of 48x64, but it is 96x64"),
        ({**shape(), "image_rotation": 90}, "turned in Label Studio"),
        ({**shape(), "value": 3}, "rectangle without a value"),
        (shape("polygon", points=[[1, 2], [3]]), "polygon without points"),
    ],
)
def test_a_wrong_shape_is_its_photos_problem(
    tmp_path: Path, row: dict[str, Any], problem: str
) -> None:
    assert problem in (one(tmp_path, row).problem or "")


def test_what_is_no_task_is_refused(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.jpg", 1)
    for rows in ([task("a.jpg"), 3], [task("")]):
        (tmp_path / "x.json").write_text(json.dumps(rows))
        with pytest.raises(InputError, match=r"task 2 is not an object|task 1 names no photo"):
            registry.read(tmp_path)
