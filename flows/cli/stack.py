"""`iml stack`: PostgreSQL, S3, MLflow, Prefect and a worker on loopback, without Docker."""

from __future__ import annotations

import typer

from flows.cli._common import AsJson, add_row, new_table, print_json, show

app = typer.Typer(
    help="The production services on loopback: up, status, rotate, down.", no_args_is_help=True
)


def _progress(line: str) -> None:
    typer.echo(line, err=True)


@app.command()
def up() -> None:
    """Start every service that is not running and wait until all answer."""
    from flows.stack import services

    _print_usage(services.up(_progress).file)


@app.command()
def rotate() -> None:
    """Give every service of a running stack new passwords and keys."""
    from flows.stack import services

    _print_usage(services.rotate(_progress).file)


def _print_usage(file: object) -> None:
    typer.echo(f"The stack is up. To use it in a shell: set -a; . {file}; set +a")


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show every service with its state, address and log. Exit code 1 unless all answer."""
    from flows.stack import services

    found = services.status()
    if as_json:
        print_json([vars(row) for row in found])
    elif not found:
        typer.echo("there is no stack here; `iml stack up` starts one")
    else:
        _show(found)
    if not found or not all(row.healthy for row in found):
        raise typer.Exit(1)


def _show(found: list) -> None:
    table = new_table("Stack", "service", "state", "address", "log")
    for row in found:
        state = "up" if row.healthy else "does not answer" if row.running else "down"
        add_row(table, row.service, state, row.address, row.log)
    show(table)


@app.command()
def down() -> None:
    """Stop exactly what `up` started; data, passwords and logs stay."""
    from flows.stack import services

    ended = services.down()
    typer.echo(f"stopped: {', '.join(ended)}" if ended else "nothing was running")
