from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_support import write_photo
from ingest_support import by_name, sides
from PIL import Image
from pycocotools import mask as codec

from components.ingest.formats import registry
from components.ingest.formats.record import Record


def write(file: Path, *shapes: Any, path: str = "a.jpg", **more: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    size = {"imageHeight": 64, "imageWidth": 96, "imageData": "aGVsbG8="}
    index = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": path, **size, **more}
    file.write_text(json.dumps(index))
    return file


def shape(kind: str | None, points: Any, **more: Any) -> dict[str, Any]:
    return {"label": "splice", "shape_type": kind, "points": points, "flags": {}, **more}


RECTANGLE = shape("rectangle", [[45, 36], [15, 20]])


def one(root: Path, *shapes: Any) -> Record:
    write_photo(root / "a.jpg", 1)
    write(root / "a.json", *shapes)
    return by_name(root)["a.jpg"]


def png(mask: np.ndarray) -> str:
    file = BytesIO()
    Image.fromarray(mask).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        (RECTANGLE, (15, 20, 30, 16)),
        (shape("polygon", [[10, 20], [40, 20], [40, 90]]), (10, 20, 30, 44)),
        (shape(None, [[10, 20], [40, 20], [40, 36]]), (10, 20, 30, 16)),
        (shape("circle", [[40, 30], [40, 40]]), (30, 20, 20, 20)),
        (shape("rotation", [[45, 5], [45, 45], [35, 45], [35, 5]]), (35, 5, 10, 40)),
    ],
)
def test_shapes(tmp_path: Path, drawn: dict[str, Any], expected: tuple[float, ...]) -> None:
    record = one(tmp_path, drawn)
    assert (sides(record), record.kind, record.problem) == ([expected], "splice", None)
    assert (record.boxes[0].region is None) == (drawn["shape_type"] == "rectangle")


def test_a_mask_lies_between_its_corners(tmp_path: Path) -> None:
    mask = np.zeros((3, 4), np.uint8)
    mask[1:, 2:] = 255
    record = one(tmp_path, shape("mask", [[10, 20], [13, 22]], mask=png(mask)))
    region = record.boxes[0].region
    assert isinstance(region, dict)
    assert np.argwhere(codec.decode(region)).tolist() == [[21, 12], [21, 13], [22, 12], [22, 13]]
    assert sides(record) == [(12, 21, 2, 2)]


@pytest.mark.parametrize(
    ("drawn", "problem"),
    [
        (shape("rectangle", [[1, 2]]), "shape 1: a rectangle of 1 points, not 2"),
        (shape("rectangle", [[1, "x"], [3, 4]]), "y is 'x'"),
        (shape("polygon", None), "points is not a list of pairs"),
        (shape("cube", [[1, 2], [3, 4]]), "unknown shape_type 'cube'"),
        (shape(["cube"], [[1, 2], [3, 4]]), "unknown shape_type ['cube']"),
        (shape("mask", [[1, 2], [3, 4]]), "mask is not base64"),
        (shape("mask", [[1, 2], [3, 4]], mask="aGVsbG8="), "mask: not a"),
        (shape("mask", [[1, 2], [3, 4]], mask=png(np.zeros((2, 2), np.uint8))), "mask is empty"),
        (3, "shapes is not a list of objects"),
        (shape("line", [[1, 2], [3, 4]]), "gives a box (line)"),
    ],
)
def test_a_wrong_shape_is_its_photos_problem(tmp_path: Path, drawn: Any, problem: str) -> None:
    assert problem in (one(tmp_path, drawn).problem or "")


@pytest.mark.parametrize("path", ["..\\photos\\a.jpg", "../photos/a.jpg", "gone.png", "", "a.png"])
def test_photos_are_found_by_their_path_or_the_files_name(tmp_path: Path, path: str) -> None:
    photo = write_photo(tmp_path / "photos" / "a.jpg", 1)
    write(tmp_path / "json" / "a.json", RECTANGLE, path=path)
    (record,) = registry.read(tmp_path).records
    assert (record.photo, record.problem, record.label) == (photo, None, "manipulated")
    write(tmp_path / "json" / "a.json", path=path)
    (record,) = registry.read(tmp_path, authentic=True).records
    assert record.label == "authentic"


def test_a_file_that_cannot_be_read_is_its_photos_problem(tmp_path: Path) -> None:
    one(tmp_path, RECTANGLE)
    write_photo(tmp_path / "b.jpg", 2)
    (tmp_path / "b.json").write_text('{"shapes": [')
    (tmp_path / "c.json").write_text("{}")
    reading = registry.read(tmp_path)
    assert "b.json: not valid JSON" in (reading.records[1].problem or "")
    assert reading.left == [("c.json", "not a LabelMe file")]


def test_a_photo_without_a_file_is_left_out(tmp_path: Path) -> None:
    one(tmp_path, RECTANGLE)
    write_photo(tmp_path / "b.jpg", 2)
    left = registry.read(tmp_path).left
    assert left == [("b.jpg", "a photo that the annotations do not name")]
