"""A small workspace of its own: a copy of this project with forty made photos and tiny training."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from e2e_support import Workspace, add_demo, make_workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace with a tracked data set `demo` of 28 manipulated and 14 authentic photos."""
    made = make_workspace(tmp_path_factory.mktemp("workspace"))
    add_demo(made)
    yield made
    shutil.rmtree(made.root, ignore_errors=True)
