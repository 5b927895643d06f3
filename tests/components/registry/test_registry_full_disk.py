"""A version that does not fit where MLflow keeps its files: not registered, and later it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from components.core.errors import exit_on_error
from components.registry.package import Package
from components.registry.promotion import register
from components.registry.versions import Registry


def test_a_version_that_does_not_fit_is_one_line_and_registered_later(
    registry: Registry,
    make_package: Callable[..., Package],
    small_disk: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    disk = small_disk("128k")
    monkeypatch.setenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", disk.as_uri())
    with pytest.raises(SystemExit) as caught, exit_on_error():
        register(registry, make_package(), clean=True, actor="ann")
    assert caught.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "No space left on device" in line
    assert str(disk) in line
    assert registry.rows() == []
    assert registry.store.versions(registry.model) == []
    small_disk("8m")
    assert register(registry, make_package(), clean=True, actor="ann") == 1
    assert [row.version for row in registry.rows()] == [1]
