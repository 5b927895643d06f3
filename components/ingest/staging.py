"""Where a data set is made or added to: beside its place, by one process at a time."""

from __future__ import annotations

import glob
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from components.core.files import alone


@contextmanager
def staging(root: Path) -> Iterator[Path]:
    """An empty folder beside a data set's, on the same file system; removed in the end.

    Whoever else wants to work on the same data set waits. What a killed process left is removed.

    Args:
        root: the data set's folder, which need not exist yet.
    """
    new = not root.parent.exists()
    root.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield from _staging(root)
    finally:
        if new:  # nothing is left where nothing was made
            with suppress(OSError):
                root.parent.rmdir()


def _staging(root: Path) -> Iterator[Path]:
    with alone(root.parent / f".{root.name}.lock"):
        # Eight characters are what tempfile adds: no other data set's name fits.
        for left in root.parent.glob(f".{glob.escape(root.name)}-????????"):
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{root.name}-") as folder:
            yield Path(folder)
