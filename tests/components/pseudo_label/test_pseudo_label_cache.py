from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

from components.pseudo_label.cache import Cache, Entry

KEY, OTHER = "ab" * 32, "cd" * 32


def place(folder: Path, key: str) -> Path:
    return folder / key[:2] / f"{key}.label"


ENTRY = Entry(b"\x89PNG\n\x00bytes\n", {"confidence": 0.25, "stability": None, "reason": "ä"})


def test_what_was_put_comes_back(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.get(KEY) is None
    assert cache.put(KEY, ENTRY) is None
    assert cache.get(KEY) == ENTRY
    assert place(tmp_path, KEY).is_file()
    assert cache.get(OTHER) is None


def test_every_damaged_byte_is_noticed(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put(KEY, ENTRY)
    path = place(tmp_path, KEY)
    whole = path.read_bytes()
    for index in range(len(whole)):
        path.write_bytes(whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :])
        assert cache.get(KEY) is None, index
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        assert cache.get(KEY) is None, length


def test_entry_under_another_key_is_refused(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put(KEY, ENTRY)
    place(tmp_path, OTHER).parent.mkdir()
    os.rename(place(tmp_path, KEY), place(tmp_path, OTHER))
    assert cache.get(OTHER) is None


def test_folder_that_cannot_be_made_is_reported_not_raised(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = Cache(tmp_path / "file" / "cache")
    assert "Not a directory" in (cache.put(KEY, ENTRY) or "")
    assert cache.get(KEY) is None


def test_full_disk_is_reported_not_raised(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))
    try:
        complaint = cache.put(KEY, ENTRY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert complaint == "File too large"
    assert cache.get(KEY) is None
