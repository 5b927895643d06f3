"""Missing files: what counts as there, and what leaves the root; which rows belong together."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from components.data.manifest import Manifest
from components.validate.tables import _first_digest, first, missing, related


def absent(root: Path, *paths: str | None) -> list[bool]:
    return missing(root, pa.array(paths, pa.large_string())).tolist()


def test_files_are_found_in_every_folder_below_the_root(tmp_path: Path) -> None:
    for path in ("top.png", "photos/a.jpg", "photos/deep/er/b.jpg", "photos/ä b.jpg"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    paths = ["top.png", "photos/a.jpg", None, "photos/deep/er/b.jpg", "photos/ä b.jpg"]
    assert absent(tmp_path, *paths) == [False] * 5
    assert absent(tmp_path, *paths[::-1], *paths) == [False] * 10
    assert absent(tmp_path, "a.jpg", "photos/top.png", "photos/A.JPG", "none/a.jpg") == [True] * 4


def test_a_name_that_is_not_utf8_is_no_photo_and_no_harm(tmp_path: Path) -> None:
    for name in (b"a.jpg", b"caf\xe9.jpg"):
        (tmp_path / os.fsdecode(name)).touch()
    assert absent(tmp_path, "a.jpg", "caf.jpg") == [False, True]


def test_a_folder_and_a_dangling_link_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    os.symlink("nowhere", tmp_path / "photos" / "link.jpg")
    paths = ("photos", "photos/deep", "photos/link.jpg", "photos/", "", ".")
    assert absent(tmp_path, *paths) == [True] * 6


def test_a_link_to_a_cached_file_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "cached").touch()
    (tmp_path / "root" / "photos").mkdir(parents=True)
    os.symlink(tmp_path / "cached", tmp_path / "root" / "photos" / "a.jpg")
    assert absent(tmp_path / "root", "photos/a.jpg") == [False]


def test_paths_that_leave_the_root_are_missing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "photos").mkdir(parents=True)
    (tmp_path / "out.jpg").touch()
    os.symlink(tmp_path, root / "way")
    paths = ("../out.jpg", "photos/../../out.jpg", str(tmp_path / "out.jpg"), "way/out.jpg")
    assert absent(root, *paths) == [True] * 4


def test_no_paths_at_all(tmp_path: Path) -> None:
    assert absent(tmp_path) == []
    assert absent(tmp_path, None, None) == [False, False]


def _expected(values: list[str | None]) -> list[int]:
    return [-1 if value is None else values.index(value) for value in values]


def _digests(count: int, kinds: int) -> list[str | None]:
    stream = np.random.default_rng(kinds)
    return [f"{int(n):064x}" for n in stream.integers(0, kinds, count)]


@pytest.mark.parametrize("kinds", [3, 200, 10**6])
@pytest.mark.parametrize("spoiled", [None, "", "short", "ä" * 32])
@pytest.mark.parametrize("chunks", [1, 3])
def test_the_first_of_equal_digests_is_found(kinds: int, spoiled: str | None, chunks: int) -> None:
    values = _digests(300, kinds)
    for odd in ([], [7], [7, 8, 299]):
        for row in odd:
            values[row] = spoiled
        parts = [values[start::chunks] for start in range(chunks)]
        ordered = [value for part in parts for value in part]
        array = pa.chunked_array([pa.array(part, pa.large_string()) for part in parts])
        assert _first_digest(array).tolist() == _expected(ordered)
        assert first(array).tolist() == _expected(ordered)
        single = pa.array(["x", *ordered], pa.large_string()).slice(1)
        assert _first_digest(single).tolist() == _expected(ordered)


def test_rows_of_photos_groups_and_boxes() -> None:
    images = pd.DataFrame({"image_id": ["b", "a", None, "b"], "group": ["g", "g", None, "h"]})
    boxes = pd.DataFrame({"image_id": ["a", "x", "b", None, "a", "x"]})
    rows = related(Manifest(images, boxes))
    assert rows.photos.tolist() == [0, 1, -1, 0]
    assert rows.groups.tolist() == [0, 0, -1, 3]
    assert rows.boxes.tolist() == [1, -1, 0, -1, 1, -1]
    assert rows.drawn().tolist() == [1, 2, 0, 1]
