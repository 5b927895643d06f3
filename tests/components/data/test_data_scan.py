from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from data_support import write_mask, write_photo

from components.core.files import sha256_file
from components.data import scan


def test_results_keep_the_order_of_the_items_whatever_their_pace() -> None:
    def work(number: int) -> int:
        time.sleep(0.002 * (number % 5 == 0))
        return number * number

    seen: list[tuple[int, int]] = []
    found = scan.run(work, list(range(100)), lambda done, total: seen.append((done, total)))
    assert found == [number * number for number in range(100)]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (100, 100)


def test_the_work_is_spread_over_threads() -> None:
    if scan.cores() < 2:
        pytest.skip("one core")
    names = scan.run(lambda _: (time.sleep(0.001), threading.get_ident())[1], list(range(100)))
    assert len(set(names)) > 1


def test_an_error_ends_the_run_early() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        if number == 3:
            raise ValueError("broken")
        time.sleep(0.001)
        done.append(number)

    with pytest.raises(ValueError, match="broken"):
        scan.run(work, list(range(2000)))
    assert len(done) < 2000


def test_a_look_at_a_photo_and_its_mask(tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "a.jpg", 1)
    mask = write_mask(tmp_path / "m.png", (10, 20, 40, 36))
    seen = scan.look(scan.Job.of("a.jpg", photo, mask, True, 1.0), 1.0)
    assert seen.problem is None
    assert (seen.sha256, seen.size) == (sha256_file(photo), (96, 64))
    assert seen.mask is not None
    assert (seen.mask.sha256, seen.mask.size) == (sha256_file(mask), (96, 64))
    assert seen.mask.components is not None
    assert seen.mask.components.tolist() == [[10, 20, 40, 36]]
    plain = scan.look(scan.Job.of("a.jpg", photo, mask, False, 1.0), 1.0)
    assert plain.mask is not None
    assert plain.mask.components is None
