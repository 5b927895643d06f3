from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from components.core.errors import InputError
from components.pseudo_label.cache import LIMIT, Embeddings

KEYS = [f"{n:02x}" * 32 for n in range(8)]
ONE = np.arange(100, dtype=np.float32).reshape(4, 5, 5)


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.embedding"))


def test_what_was_put_comes_back(tmp_path: Path) -> None:
    kept = Embeddings(tmp_path)
    assert kept.get(KEYS[0]) is None
    several = [ONE, np.zeros((0, 3), np.float32), ONE.reshape(2, 50)[:, ::2]]
    kept.put(KEYS[0], several)
    found = kept.get(KEYS[0])
    assert [part.shape for part in found] == [(4, 5, 5), (0, 3), (2, 25)]
    assert all(np.array_equal(a, b) for a, b in zip(found, several, strict=True))


def test_damage_is_found(tmp_path: Path) -> None:
    kept = Embeddings(tmp_path)
    kept.put(KEYS[0], [ONE])
    path = files(tmp_path)[0]
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert kept.get(KEYS[0]) is None


def test_the_longest_unused_go_when_the_limit_is_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIMIT, "0.0000025")  # 2,500 bytes: five arrays of 400 with their heads
    kept = Embeddings(tmp_path)
    for age, key in enumerate(KEYS[:4]):
        kept.put(key, [ONE])
        path = tmp_path / key[:2] / f"{key}.embedding"
        os.utime(path, (1000 + age, 1000 + age))
    assert kept.get(KEYS[0]) is not None  # used just now, so it stays
    kept.put(KEYS[4], [ONE])
    kept.put(KEYS[5], [ONE])
    left = {path.stem for path in files(tmp_path)}
    assert KEYS[0] in left
    assert KEYS[5] in left
    assert KEYS[1] not in left


def test_a_limit_that_is_no_number_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIMIT, "much")
    with pytest.raises(InputError, match=LIMIT):
        Embeddings(tmp_path)


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    kept = Embeddings(tmp_path / "file")
    kept.put(KEYS[0], [ONE])
    assert kept.get(KEYS[0]) is None
