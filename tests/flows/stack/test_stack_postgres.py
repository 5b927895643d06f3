"""PostgreSQL of the stack, where something that it needs is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from components.errors import InputError
from flows.stack import services


def test_a_missing_client_is_one_line_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("IML_STATE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(InputError, match="psycopg2 is missing") as caught:
        services.up(print)
    assert "extra `postgres`" in caught.value.line()
    assert not (tmp_path / "stack/processes.json").exists()
