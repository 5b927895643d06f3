"""Which files a version depends on, so that only a change of these makes its workspace unclean."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

_FOLDERS = ("components", "flows", ".dvc")  # code with its data, and DVC's configuration
_FILES = ("params.yaml", "dvc.yaml", ".dvcignore", "pyproject.toml", "constraints.txt")
_MODULES = (".py", ".pyc", ".so")  # what Python imports


def counts(path: str, named: Collection[str]) -> bool:
    """Whether a change of a file, tracked by git or not, can change what a run makes.

    It can where a stage, an import or DVC reads it. A module outside the code's packages is
    imported only from the workspace's own folder, where it hides a library of its name.

    Args:
        path: relative to the workspace, with forward slashes.
        named: what stages depend on and params.yaml names, files and folders, likewise.
    """
    place = PurePosixPath(path)
    module = place.suffix in _MODULES
    importable = len(place.parts) == 1 or (len(place.parts) == 2 and place.stem == "__init__")
    return (
        place.parts[0] in _FOLDERS
        or path in _FILES
        or place.suffix == ".dvc"
        or (module and importable)
        or any(part in named for part in (path, *map(str, place.parents)))
    )


def dependencies(lock: Mapping[str, Any]) -> set[str]:
    """Paths that the stages of a parsed dvc.lock read."""
    stages = (lock.get("stages") or {}).values()
    return {row["path"] for stage in stages for row in stage.get("deps", [])}


def texts(values: Any) -> Iterator[str]:
    """Every text among nested values of params.yaml: file names are among them."""
    if isinstance(values, str):
        yield values
    elif isinstance(values, Mapping | list):
        for value in values.values() if isinstance(values, Mapping) else values:
            yield from texts(value)
