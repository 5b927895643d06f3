"""The commands of `iml model` that change what the registry says."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from flows.catalogue import Catalogue
from flows.cli._registry import Json, opened, print_json

if TYPE_CHECKING:
    from components.registry.chain import Row

Which = Annotated[str, typer.Argument(metavar="NAME/VERSION", help="A registered version.")]
Why = Annotated[str, typer.Option(help="Why, on one line; goes into the ledger.")]
Who = Annotated[str | None, typer.Option(help="Who decides; default: this account.")]


def _parse(model: str) -> tuple[str, int]:
    from components.core.errors import InputError
    from components.registry.versions import parse_reference

    name, version = parse_reference(model)
    if version is None:
        raise InputError(f"{model!r} has no version number", hint="use name/version")
    return name, version


def _tell(row: Row, notes: list[str], as_json: bool, sentence: str) -> None:
    if as_json:
        print_json({"row": row.plain(), "notes": notes})
        return
    instead = row.previous_champion
    after = f", in place of version {instead}" if instead else ""
    typer.echo(f"{row.model}/{row.version} is {sentence} (ledger row {row.sequence}){after}")


def _note(note: str) -> None:
    print(f"note: {note}", file=sys.stderr)


def register(as_json: Json = False) -> None:
    """Register and sign this workspace's student; does nothing if it is already registered."""
    from components import workspace
    from components.core import params
    from flows import candidate

    settings = params.load()
    name = settings.promotion.model
    with workspace.exclusive(), Catalogue(name).decisions():
        version, new = candidate.register(settings, _note, "iml model register")
    if as_json:
        print_json({"model": name, "version": version, "registered": new})
    else:
        typer.echo(f"{name}/{version} {'is registered' if new else 'was already registered'}")


def promote(
    model: Which,
    as_json: Json = False,
) -> None:
    """Apply the gates to this workspace's student and promote it, or leave that to `approve`.

    The version must be the student in runs/export. Exit code 1 if a gate fails.
    """
    from components import workspace
    from components.core import params
    from components.core.errors import InputError
    from flows import candidate

    name, version = _parse(model)
    settings = params.load()
    if name != settings.promotion.model:
        raise InputError(
            f"this workspace's model is {settings.promotion.model!r}, not {name!r}",
            where="params.yaml",
        )
    opened(name)
    with workspace.exclusive(), Catalogue(name).decisions():
        decision = candidate.decide(settings, version)
    if as_json:
        gates = [gate.row() for gate in decision.gates]
        said = {name: getattr(decision, name) for name in ("model", "version", "champion")}
        state = {"promoted": decision.promoted, "awaiting": decision.awaiting}
        typer.echo(json.dumps({**said, **state, "gates": gates, "sentence": decision.sentence}))
    else:
        from rich.console import Console

        from flows.cli._tables import gates_table

        rows = [gate.row() for gate in decision.gates]
        Console().print(gates_table(f"Gates of {model}", rows))
        typer.echo(decision.sentence)
    if not (decision.promoted or decision.awaiting):
        raise typer.Exit(1)


def approve(model: Which, reason: Why, by: Who = None, as_json: Json = False) -> None:
    """Promote a version that passed its gates and awaits approval; checks the evidence again."""
    from components.core import params
    from components.core.errors import InputError
    from components.registry import promotion
    from components.registry.ledger import actor_here

    name, version = _parse(model)
    rules = params.load().promotion
    if name != rules.model:
        raise InputError(
            f"this workspace's model is {rules.model!r}, not {name!r}", where="params.yaml"
        )
    registry, notes = opened(name)
    with Catalogue(name).decisions():
        row = promotion.approve(registry, version, rules, actor=by or actor_here(), reason=reason)
    _tell(row, notes, as_json, "champion")


def rollback(model: Which, reason: Why, by: Who = None, as_json: Json = False) -> None:
    """Make an earlier champion champion again, after checking its files and signature."""
    from components.registry import promotion
    from components.registry.ledger import actor_here

    name, version = _parse(model)
    registry, notes = opened(name)
    with Catalogue(name).decisions():
        row = promotion.rollback(registry, version, actor=by or actor_here(), reason=reason)
    _tell(row, notes, as_json, "champion again")
