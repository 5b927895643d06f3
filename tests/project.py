"""The project's own files, and copies of it for tests that run, extend or break one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


def tracked(*patterns: str) -> list[str]:
    """Names of the files that git knows or would add and that are there."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def copy_project(folder: Path, wanted: Callable[[str], bool]) -> None:
    """Copy the wanted files; never the archives of old versions, which are large."""
    for name in tracked():
        if wanted(name) and not name.startswith("tests/versions/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
