"""Processes told apart by boot and start."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from components.workspace.processes import birth, end_group, same_group


def _sleeper() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    return subprocess.Popen(command, start_new_session=True)


def test_a_birth_is_a_processs_own() -> None:
    first = _sleeper()
    time.sleep(0.05)  # some ticks
    second = _sleeper()
    try:
        births = [birth(process.pid) for process in (first, second)]
        assert births == [birth(process.pid) for process in (first, second)]
        assert len({*births, birth(os.getpid())}) == 3
        assert births[0] is not None
        assert same_group(first.pid, births[0])
        assert not same_group(second.pid, births[0])
    finally:
        for process in (first, second):
            end_group(process.pid)
            process.wait()
    assert birth(first.pid) is None
    assert same_group(first.pid, births[0])  # its group may live on
    assert not same_group(first.pid, "another-boot 17")
