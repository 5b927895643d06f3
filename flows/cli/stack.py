"""`iml stack`: PostgreSQL, S3, MLflow, Prefect and a worker on loopback, without Docker."""

from __future__ import annotations

import json
from typing import Annotated

import typer

app = typer.Typer(help="The production services on loopback.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def _tell(line: str) -> None:
    typer.echo(line, err=True)


@app.command()
def up() -> None:
    """Start what does not run yet and wait until all of it answers."""
    from flows.stack import services

    _say(services.up(_tell).file)


@app.command()
def rotate() -> None:
    """New passwords and keys for every service of a running stack."""
    from flows.stack import services

    _say(services.rotate(_tell).file)


def _say(file: object) -> None:
    typer.echo(f"The stack is up. To use it in a shell: set -a; . {file}; set +a")


@app.command()
def status(as_json: AsJson = False) -> None:
    """Every service, whether it answers, its address and log. Exit code 1 unless all do."""
    from flows.stack import services

    found = services.status()
    if as_json:
        typer.echo(json.dumps([row.row() for row in found], indent=2))
    elif not found:
        typer.echo("there is no stack here; `iml stack up` makes one")
    else:
        _show(found)
    if not found or not all(row.healthy for row in found):
        raise typer.Exit(1)


def _show(found: list) -> None:
    from rich.console import Console

    from flows.cli._tables import add_row, new_table

    table = new_table("Stack", "service", "state", "address", "log")
    for row in found:
        state = "up" if row.healthy else "does not answer" if row.running else "down"
        add_row(table, row.service, state, row.address, row.log)
    Console().print(table)


@app.command()
def down() -> None:
    """End exactly what `up` started; data, passwords and logs stay."""
    from flows.stack import services

    ended = services.down()
    typer.echo(f"ended: {', '.join(ended)}" if ended else "nothing was running")
