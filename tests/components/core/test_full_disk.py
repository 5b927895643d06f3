"""A full disk, which is a small file system in memory: one line, nothing half-written."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from components.core.errors import exit_on_error
from components.core.files import atomic, link_or_copy, write_bytes, write_json

NOISE = np.random.default_rng(1).integers(0, 255, (300, 300, 3), dtype=np.uint8)


@pytest.fixture
def small(small_disk: Callable[[str], Path]) -> Path:
    return small_disk("64k")


def parquet(path: Path) -> None:
    with atomic(path) as temporary:
        pq.write_table(pa.table({"a": NOISE.ravel()}), temporary)


def array(path: Path) -> None:
    with atomic(path) as temporary:
        np.save(temporary, NOISE)


def picture(path: Path) -> None:
    with atomic(path) as temporary:
        Image.fromarray(NOISE).save(temporary, "PNG")


def archive(path: Path) -> None:
    with atomic(path) as temporary, tarfile.open(temporary, "w") as tar:
        tar.add(__file__)
        for number in range(30):
            tar.add(__file__, str(number))


def copy(path: Path) -> None:
    source = path.parents[1] / "noise"
    source.write_bytes(NOISE.tobytes())
    link_or_copy(source, path)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_bytes(path, NOISE.tobytes()),
        lambda path: write_json(path, NOISE.ravel().tolist()),
        *(parquet, array, picture, archive, copy),
    ],
)
def test_a_full_disk_is_one_line_and_the_old_file_stays(
    small: Path, write: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    path = small / "result.npy"
    path.write_text("old")
    with pytest.raises(SystemExit) as caught, exit_on_error():
        write(path)
    assert caught.value.code == 2
    hint = "free some space and run the same command again, finished work is kept"
    assert capsys.readouterr().err == f"error: {path}: No space left on device; {hint}\n"
    assert [file.name for file in small.iterdir()] == ["result.npy"]
    assert path.read_text() == "old"


def test_a_folder_that_does_not_fit_is_one_line(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/noise").write_bytes(NOISE.tobytes())
    with pytest.raises(SystemExit) as caught, exit_on_error():
        shutil.copytree(tmp_path / "folder", small / "copy")
    shutil.rmtree(small / "copy")
    assert caught.value.code == 2
    line = f"error: {small}/copy/noise: No space left on device; free some space"
    assert capsys.readouterr().err.startswith(line)
