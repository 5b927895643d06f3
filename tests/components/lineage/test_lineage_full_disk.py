"""A bundle and a stage's outputs that do not fit: one line, nothing half-written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lineage_support as support
import pandas as pd
import pytest

from components.core.errors import exit_on_error
from components.lineage.bundle import export
from components.lineage.collect import collect


@pytest.mark.parametrize("size", ["64k", "3m"])  # git's part of it alone does not fit, or does
def test_a_bundle_that_does_not_fit_leaves_nothing(
    size: str,
    project: Path,
    standing: Callable[[Path], None],
    small_disk: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    standing(project)
    target = small_disk(size) / "one.tar"
    with (
        pytest.raises(SystemExit) as caught,
        exit_on_error(),
        collect(f"{support.MODEL}/1") as evidence,
    ):
        export(evidence, target, photos=True)
    assert caught.value.code == 2
    assert "No space left on device; free some space" in capsys.readouterr().err
    assert list(target.parent.iterdir()) == []


def test_a_stage_whose_output_does_not_fit_is_one_line_and_runs_later(
    copied: Path, small_disk: Callable[[str], Path]
) -> None:
    disk = small_disk("8k")
    (copied / "runs").symlink_to(disk)

    def stage() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "components.index", "made"]
        environment = {**os.environ, "PYTHONPATH": str(support.ROOT)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    done = stage()
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: runs/index/made/")
    assert "No space left on device; free some space" in last
    # What is there is whole.
    assert [path.suffix for path in disk.rglob("*") if path.name.startswith(".")] == []
    assert all(len(pd.read_parquet(path)) for path in disk.rglob("*.parquet"))
    small_disk("1m")
    assert stage().returncode == 0
