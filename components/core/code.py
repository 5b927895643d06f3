"""The code behind what is kept.

Caches are filed under the modules that make their content; a version ships those that serve it.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from components.core.files import sha256_file, sha256_json


def code_sha256(*modules: str) -> str:
    """SHA-256 over the source files of modules, by dotted name; they are not imported.

    Raises ModuleNotFoundError for one that does not exist.
    """
    return sha256_json([[name, sha256_file(_origin(name))] for name in modules])


def _origin(name: str) -> str:
    """A module's source file."""
    found = find_spec(name)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(name)
    return found.origin


def imported(module: str) -> dict[str, Path]:
    """Source files by module: one of our modules, all of ours behind it, and their packages.

    Read from the import statements, in functions too; nothing is imported.
    """
    import grimp

    package = module.partition(".")[0]
    graph = grimp.build_graph(package, cache_dir=None)
    names = {module, *graph.find_upstream_modules(module)}
    names |= {name.rpartition(".")[0] for name in names} | {package}
    return {name: Path(_origin(name)) for name in sorted(names - {""})}
