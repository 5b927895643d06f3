"""The browser itself, for people who have one each."""

from __future__ import annotations

import pytest
from browsers import Browser


@pytest.fixture(scope="module")
def browser(_browser: Browser) -> Browser:
    return _browser
