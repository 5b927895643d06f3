"""A sound data set that each test spoils in one way."""

from __future__ import annotations

from pathlib import Path

import pytest
from validate_support import Made, make


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make(tmp_path / "data" / "made")
