"""A stack of its own for each test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.stack import settings as places
from flows.stack.settings import Settings


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free_port: int) -> Iterator[Settings]:
    """Of a stack whose PostgreSQL has a folder that its own account can enter."""
    home = Path(tempfile.mkdtemp(prefix="iml-stack-", dir="/tmp"))
    home.chmod(0o755)
    monkeypatch.setenv("IML_STATE", str(tmp_path))
    monkeypatch.setenv("IML_POSTGRES_DATA", str(home / "data"))
    monkeypatch.setenv("IML_POSTGRES_PORT", str(free_port))
    try:
        yield places.load_or_make()
    finally:
        shutil.rmtree(home)
