"""Which files of a data set exist: one listing per folder instead of one look-up per file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.core.errors import InputError
from components.core.files import inside, printable


def _listing(root: Path, folder: str) -> pa.Array:
    """Paths of the files in a folder below `root`; none where it is absent or leaves the root.

    Args:
        root: the data set's folder.
        folder: relative to it, with a slash at its end unless it is the root itself.
    """
    try:
        with os.scandir(inside(root, folder)) as entries:
            names = [folder + printable(entry.name) for entry in entries if entry.is_file()]
    except (InputError, OSError):
        names = []
    return pa.array(names, pa.string())


def missing(root: Path, paths: pa.Array) -> np.ndarray:
    """Tell which paths name no file below `root`.

    Args:
        root: the data set's folder.
        paths: strings relative to it with forward slashes; null where there is none to look for.

    Returns:
        bool array, shape (len(paths),): True where the path is given and is no file, or leaves
        the root.
    """
    folders = pc.unique(pc.replace_substring_regex(paths, "[^/]*$", "")).drop_null()
    present = pa.chunked_array(
        [_listing(root, folder) for folder in folders.to_pylist()], pa.string()
    )
    found = pc.or_kleene(pc.is_in(paths, value_set=present), pc.is_null(paths))
    pa.default_memory_pool().release_unused()
    return ~found.to_numpy(zero_copy_only=False)
