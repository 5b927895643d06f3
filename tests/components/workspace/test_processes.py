"""Processes told apart by boot and start."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from components.workspace.processes import end_group, same_group, started


def _sleeper() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    return subprocess.Popen(command, start_new_session=True)


def test_a_start_is_a_processs_own() -> None:
    first = _sleeper()
    time.sleep(0.05)  # some ticks
    second = _sleeper()
    try:
        starts = [started(process.pid) for process in (first, second)]
        assert starts == [started(process.pid) for process in (first, second)]
        assert len({*starts, started(os.getpid())}) == 3
        assert starts[0] is not None
        assert same_group(first.pid, starts[0])
        assert not same_group(second.pid, starts[0])
    finally:
        for process in (first, second):
            end_group(process.pid)
            process.wait()
    assert started(first.pid) is None
    assert same_group(first.pid, starts[0])  # its group may live on
    assert not same_group(first.pid, "another-boot 17")
