"""As if a module's source were another, for what is filed under the code that made it."""

from __future__ import annotations

from importlib.util import find_spec

import grimp
import pytest

from components.core import code
from components.core.files import sha256_file


def edited(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """Until the test ends, hash a module by its dotted name as if it had another line."""
    origin = find_spec(module).origin

    def changed(path: str) -> str:
        return "0" * 64 if path == origin else sha256_file(path)

    monkeypatch.setattr(code, "sha256_file", changed)


def behind(graph: grimp.ImportGraph, *modules: str) -> set[str]:
    """Modules and all that they import, without the packages around them."""
    found = {*modules}.union(*(graph.find_upstream_modules(module) for module in modules))
    return {module for module in found if not graph.find_children(module)}
