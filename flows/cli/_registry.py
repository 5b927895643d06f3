"""What the commands of `iml model` share: opening the registry, JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from components.registry.versions import Registry

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def opened(model: str) -> tuple[Registry, list[str]]:
    """The registry with alias and ledger brought together; what was found is printed on stderr."""
    from rich.console import Console

    from components.registry.alias import reconcile
    from components.registry.versions import Registry

    registry = Registry.open(model)
    notes = reconcile(registry)
    for note in notes:
        Console(stderr=True).print(f"note: {note}", style="yellow", markup=False, highlight=False)
    return registry, notes


def print_json(value: object) -> None:
    """One document on stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
