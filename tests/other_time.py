"""Code and students of another time: a key of student.json was called `width`, not `channels`."""

from __future__ import annotations

import shutil
from pathlib import Path

from project import ROOT

from components.core.files import read_json, sha256_json, write_json
from components.student.store import OWN_HASH

THEN, TODAY = "width", "channels"
_PLACES = {
    "core/params.py": (f"    {TODAY}: Annotated", f"    {THEN}: Annotated"),
    "student/model.py": (f"config.{TODAY}", f"config.{THEN}"),
}


def code(folder: Path) -> Path:
    """A copy of the package `components` as it was then."""
    skip = shutil.ignore_patterns("__pycache__", "assets")
    shutil.copytree(ROOT / "components", folder, ignore=skip)
    rename_in_code(folder)
    return folder


def rename_in_code(folder: Path) -> None:
    """Make a copy of the package `components` one of then."""
    for name, (before, after) in _PLACES.items():
        text = (folder / name).read_text()
        assert before in text
        (folder / name).write_text(text.replace(before, after))


def rename_key(config: Path) -> None:
    """Make a student.json one of then."""
    values = read_json(config)
    values[THEN] = values.pop(TODAY)
    del values[OWN_HASH]
    write_json(config, values | {OWN_HASH: sha256_json(values)})
